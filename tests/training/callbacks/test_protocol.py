"""A callback of one's own: what it is told, what it may stop, what comes back to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_training import train

from db1.checkpoint.run import find_checkpoint, load_weights
from db1.errors import ConfigError
from db1.metrics_log import read_metrics
from db1.training.callbacks.protocol import CALLBACKS, StepOutcome, TrainingCallback


class Diary(TrainingCallback):
    """Writes down what happens."""

    name = "diary"
    days: ClassVar[list[Any]] = []
    against: int | None = None

    def opened(self) -> None:
        resumed = self.run.resumed
        self.pages = resumed.trainer["diary"]["pages"] if resumed else 0
        self.days.append(("opened", self.pages))

    def before_step(self, step: int) -> None:
        self.now = step

    def norm_fault(self, norm: float) -> str | None:
        return "a bad day" if self.now == self.against else None

    def after_step(self, outcome: StepOutcome) -> None:
        assert outcome.step == self.now and (outcome.fault is None) == (self.now != self.against)
        self.pages += 1
        self.days.append(outcome.done)

    def saved(self, step: int) -> None:
        self.days.append(("saved", step))

    def state(self) -> dict[str, int]:
        return {"pages": self.pages}

    def close(self, *, ended: bool) -> None:
        self.days.append(("closed", ended))


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Diary]]:
    monkeypatch.setitem(CALLBACKS._own, "diary", Diary)
    monkeypatch.setattr(Diary, "days", [])
    yield Diary


def test_it_sees_a_run_and_what_it_saved(diary: type[Diary], tmp_path: Path) -> None:
    options = {"callbacks": ("diary",), "save_in_background": False, "checkpoint_every": 2}
    train(tmp_path, num_steps=3, **options)
    saved = [("saved", 2), 3, ("saved", 3)]
    assert diary.days == [("opened", 0), 1, 2, *saved, ("closed", True)]
    diary.days.clear()
    train(tmp_path, num_steps=4, **options)
    assert diary.days == [("opened", 3), 4, ("saved", 4), ("closed", True)]


def test_its_word_against_a_batch_skips_the_step(
    diary: type[Diary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "short", num_steps=1, warmup_steps=0)
    monkeypatch.setattr(diary, "against", 1)
    train(tmp_path / "objected", num_steps=2, warmup_steps=0, callbacks=("diary",))
    kept, objected = load_weights(tmp_path / "short"), load_weights(tmp_path / "objected")
    assert all(torch.equal(objected[name], kept[name]) for name in kept)


def test_an_unknown_one_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown training callback 'dairy'"):
        train(tmp_path / "run", callbacks=("dairy",))
    assert not (tmp_path / "run").exists()


def test_the_one_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CALLBACKS, "_own", dict(CALLBACKS._own))
    page = (Path(__file__).parents[3] / "docs/training.md").read_text()
    code = page.split("### A callback of your own")[1].split("```python\n")[1].split("```")[0]
    module: dict[str, Any] = {}
    exec(code, module)
    slow = module["SlowSteps"]
    steps = iter([1.0, 1.0, 4.0])
    monkeypatch.setattr(
        slow,
        "after_step",
        lambda self, outcome, real=slow.after_step: real(
            self, dataclasses.replace(outcome, seconds=next(steps))
        ),
    )
    train(tmp_path, num_steps=3, callbacks=("slow_steps",))
    (record,) = read_metrics(tmp_path, "slow_step")
    assert (record["step"], record["seconds"], record["usual"]) == (3, 4.0, 1.0)
    checkpoint = find_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.trainer["slow_steps"]["usual"] == pytest.approx(1.3)
