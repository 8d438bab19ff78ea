"""How far data walks: files, frames and containers between store and loss, environment and action.

Measured with `sys.setprofile` on tiny runs; docs/architecture.md tells both walks.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from toy_evaluation import data_root, run_folder, tokenizer  # noqa: F401  (fixtures)

import db1
from db1.cli.main import main
from db1.data.build import SourceFactory
from db1.data.config import DataConfig, TaskData
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import SequenceConfig
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.suites import SUITES, Suite, TaskEnv
from db1.suites.base import Observation, StepResult
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig
from db1.training.config import TrainingConfig
from db1.training.engines import make_engine
from db1.training.processes import Processes
from db1.training.step_loader import StepLoader

PACKAGE = str(Path(db1.__file__).parent)
TO_LOSS_FILES, TO_LOSS_CONTAINERS = 32, 6
TO_ACTION_FILES, TO_ACTION_FRAMES = 30, 9

Function = tuple[str, str]
"""A file of db1 and a function in it."""


class Walk:
    """A profile function: what runs from a function's first call to the end of another one.

    Args:
        start: The walk begins when it is called.
        end: The walk is over when it returns.
        deepest: Its deepest stack of functions is kept.
        before: No container counts once it was called.
    """

    def __init__(
        self, start: Function, end: Function, deepest: Function | None = None,
        before: Function | None = None,
    ) -> None:  # fmt: skip
        self.start, self.end, self.deepest, self.before = start, end, deepest, before
        self.files: set[str] = set()
        self.stack: list[Function] = []
        self.containers: set[str] = set()
        self._is_inside, self._is_counting = False, True

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename == "<string>":  # the __init__ of a dataclass
            if event == "return" and self._is_inside and self._is_counting:
                self._count(frame.f_locals.get("self"))
            return
        function = _function(frame)
        if function is None or event not in ("call", "return"):
            return
        if event == "call" and function == self.start and not self._is_inside:
            self._is_inside = True
        if not self._is_inside:
            return
        self.files.add(function[0])  # also of those that waited, when they return
        if event == "call" and function == self.before:
            self._is_counting = False
        if event == "call" and function == self.deepest:
            self.stack = max(self.stack, _stack(frame), key=len)
        if event == "return" and function == self.end:
            self._is_inside, self._is_counting = False, True

    def _count(self, made: Any) -> None:
        if type(made).__module__.startswith("db1.") and _holds_arrays(made):
            self.containers.add(type(made).__name__)

    def of(self, run: Callable[[], object]) -> Walk:
        """Runs something with this profile, which starts no threads."""
        before = sys.getprofile()
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            run()
        finally:
            sys.setprofile(before)
            threading.setprofile(before)
        return self


def _function(frame: FrameType) -> Function | None:
    """File (relative to the package) and name of a frame of db1, comprehensions left out."""
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
        return None
    return code.co_filename[len(PACKAGE) + 1 :].replace("\\", "/"), code.co_name


def _stack(frame: FrameType | None) -> list[Function]:
    """The functions of db1 that wait for a frame, outermost first, and its own."""
    found = []
    while frame is not None:
        function = _function(frame)
        found += [] if function is None else [function]
        frame = frame.f_back
    return found[::-1]


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, np.ndarray | torch.Tensor):
        return True
    if isinstance(value, tuple | list):
        return any(map(_holds_arrays, value))
    names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    return any(_holds_arrays(getattr(value, name)) for name in names)


SPEC = StepSpec(
    observation={
        "state": FieldSpec(kind="continuous", shape=(4,)),
        "view": FieldSpec(kind="image", shape=(16, 32, 3)),
    },
    action=FieldSpec(kind="continuous", shape=(2,)),
)


class Drive(TaskEnv):
    """A camera, some numbers, and two to act with."""

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        return self._show(), {}

    def _step(self, action: Any) -> StepResult:
        return self._show(), 0.0, False, False, {}

    def _show(self) -> Observation:
        return {"state": np.zeros(4, np.float32), "view": np.zeros((16, 32, 3), np.uint8)}


class Toys(Suite):
    """One task."""

    name, extra, rules = "toy", "none", "1"

    def task_names(self) -> list[str]:
        return ["camera"]

    def horizon(self, task_name: str) -> int:
        return 3

    def _make_env(self, task_name: str) -> TaskEnv:
        return Drive(task_id="toy/camera", step_spec=SPEC, max_steps=3)


def _write_store(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with EpisodeWriter(folder, StoreHeader(task="toy/camera", spec=SPEC)) as writer:
        for length in (8, 9, 10):
            writer.append(
                Episode(
                    observations={
                        "state": rng.normal(size=(length, 4)).astype(np.float32),
                        "view": rng.integers(0, 256, (length, 16, 32, 3), dtype=np.uint8),
                    },
                    actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                    rewards=np.zeros(length, np.float32),
                )
            )


@pytest.mark.parametrize("number_patch", [1, 4])
def test_from_store_to_loss(tmp_path: Path, number_patch: int) -> None:
    _write_store(tmp_path / "toy/camera")
    model = ModelConfig(
        num_layers=1, num_heads=2, width=8, vision_channels=4, vision_groups=2,
        number_patch=number_patch,
    )  # fmt: skip
    vocabulary = Vocabulary(VocabularyConfig())
    data = DataConfig(root=tmp_path, tasks={"toy/camera": TaskData(weight=1.0)})
    factory = SourceFactory(data, SequenceConfig(length=40), vocabulary, 0, model.patches)
    training = TrainingConfig(
        num_steps=1, global_batch_size=2, micro_batch_size=2, learning_rate=1e-3, engine="torch"
    )  # fmt: skip
    processes = Processes("torch")
    engine = make_engine(TransformerXL(model, vocabulary.size), training, processes)
    loader = StepLoader(factory.mixture(2), training, processes, 0)

    def train() -> None:
        batches, total = loader.read(0)
        engine.train_micro_batch(batches[0], engine.loss_scale(total))

    read, forward = ("store/episodes.py", "read_window"), ("model/transformer_xl.py", "forward")
    walk = Walk(read, ("model/loss.py", "masked_loss"), before=forward).of(train)
    assert {"training/step_loader.py", "model/vision.py"} <= walk.files
    files = walk.files - {"model/numbers.py", "errors.py", "ranges.py"}  # of number patches
    assert len(files) <= TO_LOSS_FILES, sorted(files)
    containers = {"TokenSegment", "PackedBatch", "Batch", "ImageGroup"}
    if number_patch > 1:
        containers |= {"NumberPatches", "NumberGroup"}
    assert walk.containers == containers and len(containers) <= TO_LOSS_CONTAINERS


def test_from_environment_to_action(
    run_folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [
        "eval", run_folder, "--task", "toy/camera", "--episodes", 2, "--workers", 0,
        "--no-text", "--no-prompt", "--allow-missing-reference", "--out", tmp_path / "out",
    ]  # fmt: skip
    assert "toy" not in SUITES
    monkeypatch.setitem(SUITES._own, "toy", Toys())
    monkeypatch.setattr(sys, "argv", ["db1", *map(str, arguments)])

    def evaluate() -> None:
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code

    loop, decode = ("rollout/loop.py", "run_episodes"), ("model/transformer_xl.py", "decode")
    walk = Walk(loop, loop, deepest=decode).of(evaluate)
    verb = next(i for i, function in enumerate(walk.stack) if function[1] == "eval_")
    between = walk.stack[verb + 1 : -1]
    assert {"suites/base.py", "inference/agent.py", "model/vision.py"} <= walk.files
    assert len(between) <= TO_ACTION_FRAMES, between
    assert len(walk.files) <= TO_ACTION_FILES, sorted(walk.files)
