"""A run with random weights that acts in two tasks, writes and sees, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from db1.checkpoint.run import WEIGHTS_FILE, save_checkpoint
from db1.checkpoint.weights import write_weights
from db1.config import save_yaml, to_dict
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.suites import make_env
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

TASKS = ("classic_control/CartPole-v1", "classic_control/Pendulum-v1", "tsp/uniform20")
TEXT = "Look at the red ball and the blue key; go to the grey door behind you. "


def make_run(folder: Path, tasks: tuple[str, ...] = TASKS) -> Path:
    """Writes a run folder with random weights, which are large enough to tell actions apart."""
    tokenizer = TextTokenizer.train([TEXT] * 9, 280)
    sizes = VocabularyConfig(text_size=tokenizer.size, num_continuous_bins=64, num_discrete=256)
    model = ModelConfig(
        num_layers=2, num_heads=2, width=32, memory_length=64, vision_groups=4, init_std=0.3
    )
    pairs = {"image_size": 32, "prompt": "Look:"}
    config = {
        "name": "toy",
        "vocabulary": to_dict(sizes),
        "model": to_dict(model),
        "sequence": {"length": 96},
        "data": {
            "root": str(folder.parent / "data"),
            "tasks": {task: {"weight": 1.0} for task in tasks},
            "pairs": {
                "names": {"kind": "caption", **pairs},
                "asked": {"kind": "question", **pairs},
            },
        },
    }
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(save_yaml(config))
    specs = {task: make_env(task).step_spec.to_dict() for task in tasks}
    (folder / "specs.json").write_text(json.dumps(specs))
    tokenizer.save(folder)
    torch.manual_seed(1)
    vocabulary = Vocabulary(sizes)
    weights = TransformerXL(model, vocabulary.size, vocabulary.bin_range()).state_dict()
    save_checkpoint(
        folder, 1, lambda place: write_weights(place / WEIGHTS_FILE, weights), trainer={}, keep=1
    )
    return folder
