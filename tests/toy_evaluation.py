"""A run folder with random weights, its demonstrations, its references and its text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.checkpoint.run import WEIGHTS_FILE, save_checkpoint
from db1.checkpoint.weights import write_weights
from db1.collection import collect
from db1.config import save_yaml, to_dict
from db1.metrics.episodes import TaskEpisodes
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.store.document_writer import DocumentWriter
from db1.suites import make_env
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

TASKS = ("classic_control/CartPole-v1", "classic_control/Acrobot-v1")
TEXT = [
    f"in the beginning number {i} was the word and the word was number {i * i}" for i in range(40)
]


def episodes_of(scores: np.ndarray) -> TaskEpisodes:
    """Episodes whose returns are these normalised scores."""
    lengths = np.ones(np.shape(scores), np.int64)
    return TaskEpisodes(returns=scores, lengths=lengths, successes=None, random=0.0, expert=1.0)


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(TEXT, 280)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Path:
    root = tmp_path_factory.mktemp("data")
    for task in TASKS:
        collect(task, 2, root, reference_episodes=2)
    for part, texts in (("train", TEXT[:30]), ("heldout", TEXT[30:])):
        with DocumentWriter(
            root / "text" / "toy" / part, np.uint16,
            tokenizer=tokenizer.fingerprint, text_size=tokenizer.size,
        ) as writer:  # fmt: skip
            for text in texts:
                writer.append(np.append(tokenizer.encode(text), tokenizer.end_of_text))
    return root


@pytest.fixture(scope="session")
def run_folder(
    tmp_path_factory: pytest.TempPathFactory, data_root: Path, tokenizer: TextTokenizer
) -> Path:
    """Checkpoints step-00000001 and step-00000002 with different random weights."""
    run = tmp_path_factory.mktemp("run")
    sizes = VocabularyConfig(text_size=tokenizer.size, num_continuous_bins=64, num_discrete=16)
    model_config = ModelConfig(num_layers=1, num_heads=2, width=16, memory_length=48)
    config = {
        "name": "toy",
        "vocabulary": to_dict(sizes),
        "model": to_dict(model_config),
        "sequence": {"length": 32},
        "data": {
            "root": str(data_root),
            "tasks": {task: {"weight": 1.0} for task in TASKS},
            "text": {"toy": {"weight": 1.0, "source": "kjv"}},
        },
    }
    (run / "config.yaml").write_text(save_yaml(config))
    specs = {task: make_env(task).step_spec.to_dict() for task in TASKS}
    (run / "specs.json").write_text(json.dumps(specs))
    tokenizer.save(run)
    vocabulary = Vocabulary(sizes)
    for step in (1, 2):
        torch.manual_seed(step)
        weights = TransformerXL(model_config, vocabulary.size).state_dict()
        save_checkpoint(
            run, step,
            lambda folder, weights=weights: write_weights(folder / WEIGHTS_FILE, weights),
            trainer={}, keep=5,
        )  # fmt: skip
    return run
