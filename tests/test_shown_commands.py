"""Commands that README and docs show, typed: each of them runs, or a list says why it does not.

Sizes are those of `SMALL`, the run is a tiny one that the same commands collect and train.
Tutorials are typed by `test_tutorials.py`; `test_docs.py` checks the options of all commands.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_docs import COMMANDS, ROOT

NOT_RUN = {
    r"scripts/(quickstart|few_shot)\.sh": "up to an hour: tests/test_quickstart.py",
    r"scripts/test\.sh": "runs the tests",
    r"--device cuda": "needs a GPU",
    r"^db1 (demo|serve)\b": "serves until it is stopped: tests/demo, tests/serving",
    r"^db1 launch\b": "several processes: tests/cli/test_launch.py",
    r"^db1 export\b": "needs the package onnx: tests/checkpoint",
    r"^db1 import (?!--help|text|trajectories demos)": "needs a data set: tests/importers",
    r"^db1 score\b": "needs COCO's or VQA's annotations: tests/cli/test_pictures.py",
    r"^sh scripts/evaluate": "needs the published checkpoint or COCO: tests/cli",
    r"870task|released": "needs the published checkpoint: tests/checkpoint, tests/cli",
    r"configs/(db1_small|easy_vqa)|runs/(db1_small|easy_vqa)": "hours of training",
    r"^db1 bench (few-shot|eval)": "hours of training: tests/benchmarks, tests/test_few_shot.py",
    r"dial|--plugin": "code of its page comes first: tests/test_worked_example.py",
    r"gym/my_environment": "code of its page comes first: tests/test_tutorials.py",
    r"wandb": "needs the package wandb",
    r"CONFIG|PORT|RUN\b": "stands for what a reader has",
}
"""By pattern: commands that are parsed only, and why."""

SMALL = (
    (r"--episodes \d+", "--episodes 3"),
    (r"\bepisodes=\d+", "episodes=2"),
    (r"metaworld/[\w-]+", "classic_control/Acrobot-v1"),  # seconds instead of minutes
    (r"(db1_tiny .*)babyai/\w+", r"\1tsp/uniform20"),  # a step of 20 tokens instead of 200
    (r"finetune-\S+-5-episodes", "finetune-Acrobot-v1-2-episodes"),
    (r"runs/(NAME|a|big)\b", "runs/db1_tiny"),
    (r"runs/(b|small)/evaluation", "runs/db1_tiny/retrieval"),
    (r"runs/(b|small)\b", "runs/wide"),
    (r"shared/model\b", "runs/db1_tiny"),
    (r"--step \d+ --slot \d+", "--step 5 --slot 1"),
    (r"--text-size \d+", "--text-size 300"),
    (r"--max-tokens \d+", "--max-tokens 40"),
    (r"--memory-length \d\d+", "--memory-length 96"),
    (r"adaptive\.period=\d+", "adaptive.period=4"),
    (r"^(db1 collect .*)$", r"\1 --reference-episodes 2"),
    (r"^(db1 eval runs/finetune.*)$", r"\1 --max-steps 20"),
    (r"^(db1 eval .*)$", r"\1 --episodes 2 --workers 0"),
    (r"^(db1 train configs/finetune.*)$", r"\1 training.num_steps=4 training.warmup_steps=1"),
    (r"^(db1 generate .*)$", r"\1 --max-tokens 8"),
    (r"^(db1 bench decode)$", r"\1 --quick"),
)
"""What makes a command quick; everything else is typed as it is shown."""

ORDER = (
    "doctor", "tasks", "parity", "import", "collect", "train", "convert", "inspect", "eval",
    "record", "report",
)  # fmt: skip
"""Verbs that others build upon; within a verb the shortest command comes first."""

EXPERIMENT = """
name: db1_tiny
vocabulary: {text_size: 400, num_continuous_bins: 64, num_discrete: 32}
sequence: {length: 160, instruction: true, max_instruction: 24}
data:
  root: data/db1_tiny
  heldout_share: 0.2
  evaluation_samples: 4
  tasks:
    classic_control/CartPole-v1: {episodes: 4}
    tsp/uniform20: {episodes: 4}
  text:
    psalm: {source: my_corpus.jsonl}
  pairs:
    vqa: {kind: question, image_size: 32, prompt: ""}
    coco: {kind: caption, image_size: 32, prompt: ""}
model: {num_layers: 1, num_heads: 2, width: 16, memory_length: 160, vision_channels: 8,
        vision_groups: 2}
training: {num_steps: 8, global_batch_size: 4, micro_batch_size: 4, learning_rate: 3.0e-3,
           engine: torch, log_every: 1, eval_every: 4, checkpoint_every: 4}
"""


def reason_not_run(command: str) -> str | None:
    """The reason why a command is parsed only."""
    return next((why for what, why in NOT_RUN.items() if re.search(what, command)), None)


def small(command: str) -> str:
    """The command with small sizes."""
    for pattern, replacement in SMALL:
        command = re.sub(pattern, replacement, command)
    return command


def _rank(command: str) -> tuple[int, int, str]:
    verb = command.split()[1]
    return ORDER.index(verb) if verb in ORDER else len(ORDER), len(command), command


SHOWN = {command for page, command in COMMANDS if not page.startswith("docs/tutorials/")}
RUN = sorted((c for c in SHOWN if reason_not_run(c) is None), key=_rank)


def test_most_commands_run_and_every_reason_is_needed() -> None:
    assert len(RUN) >= 45
    unneeded = [what for what in NOT_RUN if not any(re.search(what, c) for c in SHOWN)]
    assert unneeded == []
    assert all(command.startswith("db1 ") for command in RUN)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: configs, some files of their own, two sets of images."""
    for package in ("elkai", "minigrid", "h5py", "tensorboard"):
        pytest.importorskip(package, reason="needs the environment of scripts/test.sh")
    folder = tmp_path_factory.mktemp("shown")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "configs/db1_tiny.yaml").write_text(EXPERIMENT)
    (folder / "tests").symlink_to(ROOT / "tests")
    _write_texts(folder)
    _write_images(folder)
    return folder


def _write_texts(folder: Path) -> None:
    import h5py

    verses = [f"And the {n} sheep of the field went up to the water." for n in range(300)]
    (folder / "book.txt").write_text("\n\n".join(verses))
    (folder / "my_corpus.jsonl").write_text("".join(json.dumps({"text": v}) + "\n" for v in verses))
    (folder / "answers.txt").write_text("red\nblue\n")
    with h5py.File(folder / "demos.hdf5", "w") as file:
        for number in range(3):
            episode = file.create_group(f"data/demo_{number}")
            episode["obs/joints"] = np.ones((5, 3), np.float32)
            episode["actions"] = np.zeros((5, 2), np.float32)
            episode["rewards"] = np.ones(5, np.float32)


def _write_images(folder: Path) -> None:
    from db1.store.pairs import Pair, PairHeader, PairWriter

    colours = {"red": (200, 0, 0), "blue": (0, 0, 200)}
    data = {}
    for name, colour in colours.items():
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
        data[name] = buffer.getvalue()
    for name in ("cat.png", "shape.png", "photos/a.png", "shapes/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data["red"])
    for root in ("data", "data/db1_tiny"):
        for splits, kind in ((("train", "val"), "question"), (("train", "test"), "caption")):
            name = "vqa" if kind == "question" else "coco"
            for split in splits:
                store = folder / root / "pairs" / name / split
                with PairWriter(store, PairHeader(name=name, split=split, kind=kind)) as writer:
                    for number, colour in enumerate([*colours] * 4):
                        question = "what color is it?" if kind == "question" else None
                        pair = Pair(image_name=str(number), question=question, texts=(colour,))
                        writer.append(pair, data[colour])


@pytest.fixture
def typed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder is the working directory, without a screen."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("DISPLAY", raising=False)
    yield


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize("command", RUN)
def test_a_shown_command_runs(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from db1.cli.main import main

    monkeypatch.setattr(sys, "argv", shlex.split(small(command)))
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capfd.readouterr()
    assert not stopped.value.code, f"{small(command)}\n{said.out[-1000:]}\n{said.err[-2000:]}"
