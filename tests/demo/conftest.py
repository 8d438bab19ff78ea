"""A run with random weights that writes, sees and acts, and its page in a process of its own."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from db1.checkpoint.run import WEIGHTS_FILE, save_checkpoint
from db1.checkpoint.weights import write_weights
from db1.config import save_yaml, to_dict
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.suites import make_env
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

TASK = "classic_control/CartPole-v1"


def make_run(folder: Path, pairs: bool = True) -> Path:
    """Writes a run folder with random weights."""
    tokenizer = TextTokenizer.train(["Look at the red ball and the blue key. "] * 9, 280)
    sizes = VocabularyConfig(text_size=tokenizer.size, num_continuous_bins=64, num_discrete=16)
    model = ModelConfig(num_layers=1, num_heads=2, width=16, memory_length=48, vision_groups=4)
    data = {"root": str(folder / "data"), "tasks": {TASK: {"weight": 1.0}}}
    if pairs:
        data["pairs"] = {
            "names": {"kind": "caption", "image_size": 32, "prompt": "Look:"},
            "asked": {"kind": "question", "image_size": 32, "prompt": "Look:"},
        }
    config = {
        "name": "toy", "vocabulary": to_dict(sizes), "model": to_dict(model),
        "sequence": {"length": 64}, "data": data,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(save_yaml(config))
    (folder / "specs.json").write_text(json.dumps({TASK: make_env(TASK).step_spec.to_dict()}))
    tokenizer.save(folder)
    torch.manual_seed(1)
    weights = TransformerXL(model, Vocabulary(sizes).size).state_dict()
    save_checkpoint(
        folder, 1, lambda place: write_weights(place / WEIGHTS_FILE, weights), trainer={}, keep=1
    )
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can do everything."""
    return make_run(tmp_path_factory.mktemp("demo") / "toy")


@pytest.fixture(scope="session")
def address(run: Path) -> Iterator[str]:
    """Address of the page of `db1 demo`, on a free port."""
    pytest.importorskip("starlette", reason='needs pip install "db1[demo]"')
    pytest.importorskip("uvicorn", reason='needs pip install "db1[demo]"')
    start = "from db1.cli.main import main; main()"
    command = [sys.executable, "-c", start, "demo", str(run), "--port", "0"]
    with subprocess.Popen(
        [*command, "--fps", "200", "--device", "cpu"], stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1"), text=True,
    ) as process:  # fmt: skip
        try:
            yield _first_line(process, seconds=600).split()[1]
        finally:
            process.kill()


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:
    """Waits for the line with the address; fails when the process ends without it."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while selector.select(timeout=max(0.0, end - time.monotonic())):
            line = process.stdout.readline()
            assert line, f"`db1 demo` ended with status {process.wait()}"
            if line.startswith("demo: "):
                return line
    raise AssertionError("`db1 demo` said nothing")
