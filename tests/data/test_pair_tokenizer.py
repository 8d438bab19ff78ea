"""The tokenizer of a mixture of images with texts and no corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from db1.cli.prepare import collect_config
from db1.collection import CollectExecution
from db1.config import build
from db1.data.build import SourceFactory
from db1.data.config import DataConfig
from db1.data.mixture import generator_of
from db1.data.pair_tokenizer import train_pair_tokenizer
from db1.errors import ConfigError, DataError
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary
from db1.training.experiment import ExperimentConfig, load_experiment

YAML = """
name: questions
vocabulary: {{text_size: 400}}
sequence: {{length: 40}}
data:
  root: {root}/data
  pairs:
    shapes: {{source: "easy-vqa:{root}/shapes", kind: question, image_size: 32, prompt: Look}}
model: {{num_layers: 1, num_heads: 1, width: 16, vision_groups: 4}}
training: {{num_steps: 1, global_batch_size: 1, micro_batch_size: 1, learning_rate: 0.001}}
"""

ONE_AT_ONCE = CollectExecution(processes=1, timeout=60)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Twelve images with a question each, in easy-VQA's layout."""
    for split in ("train", "test"):
        folder = tmp_path / "shapes" / split
        (folder / "images").mkdir(parents=True)
        word = "rhombus" if split == "train" else "zeppelin"
        questions = [[f"what is the {word}?", "vermilion", i] for i in range(12)]
        (folder / "questions.json").write_text(json.dumps(questions))
        for i in range(12):
            Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(folder / f"images/{i}.png")
    file = tmp_path / "questions.yaml"
    file.write_text(YAML.format(root=tmp_path))
    return file


def test_collecting_trains_it_and_training_finds_it(experiment: Path) -> None:
    config = load_experiment(experiment)
    with pytest.raises(DataError, match="no tokenizer; run `db1 collect"):
        SourceFactory(config.data, config.sequence, _vocabulary(config), 0)
    collect_config(experiment, execution=ONE_AT_ONCE, reference_episodes=1)
    factory = SourceFactory(config.data, config.sequence, _vocabulary(config), 0)
    tokenizer = factory.tokenizer
    assert tokenizer is not None and tokenizer.size <= 400
    sample = factory.pairs("shapes").sample(0, generator_of(0, 0))
    assert tokenizer.decode(sample.ids[sample.target_mask]) == " vermilion<|endoftext|>"
    for text in (" rhombus", " vermilion", "Look", " Answer:"):
        assert len(tokenizer.encode(text)) <= 2, text
    assert len(tokenizer.encode(" zeppelin")) > 5  # the test split is not learned from


def test_the_same_pairs_give_the_same_tokenizer(experiment: Path) -> None:
    collect_config(experiment, execution=ONE_AT_ONCE, reference_episodes=1)
    config = load_experiment(experiment).data
    again = train_pair_tokenizer(config, 400)
    assert again.fingerprint == TextTokenizer.load(config.pair_tokenizer_path).fingerprint


def test_a_mixture_without_pairs_has_none(tmp_path: Path) -> None:
    config = build(DataConfig, {"root": tmp_path, "tasks": {"tsp/uniform20": {}}}, "data")
    assert config.tokenizer_path() is None
    with pytest.raises(ConfigError, match="no text to train a tokenizer on"):
        train_pair_tokenizer(config, 400)


def _vocabulary(config: ExperimentConfig) -> Vocabulary:
    return Vocabulary(config.vocabulary)
