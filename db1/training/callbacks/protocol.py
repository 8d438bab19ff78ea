"""Callbacks of a training: one method for each moment of the loop.

The loop draws, computes and steps; everything else hangs on it as a callback, and all processes
have the same ones. In the order of a run:

    prepare, prepared    the run folder is ours; the first process reads what all go by
    around               a context that holds from here to after the last step
    opened               the engine is built, a checkpoint is loaded
    before_step          may replace the stream of samples
      doing              what this process does next
      alarm, alarmed     something is wrong in one process; all come together about it
      loss_fault         a word against the batch: no step is taken
      norm_fault         the same, once the gradient is there
    after_step           losses, gradient norm, time, and what was wrong
      saved              a checkpoint counts from now on
    finish               after the last step; may wait for others
    close                always, in reverse order; raises nothing

A class of your own goes by its registered name into `training.callbacks`: one in a file of this
folder, or in a plug-in.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db1.checkpoint.run import Checkpoint
from db1.data.loader import SampleDataset
from db1.registry import Registry
from db1.training.config import TrainingConfig
from db1.training.engines.engine import TrainingEngine
from db1.training.faults.guard import Slot
from db1.training.metrics.tally import Tally
from db1.training.processes import Processes


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Samples that the next steps learn from.

    Args:
        dataset: Sample n of the run.
        stop: One past the last step that it is for.
    """

    dataset: SampleDataset
    stop: int


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """An optimizer step that is over.

    Args:
        step: Its number, from 0.
        is_last: No other comes after it, here or at all.
        is_stopped: A SIGTERM ends the run after it.
        loss: Mean loss of the batch, over all processes.
        norm: Gradient norm.
        fault: What was wrong with the batch, which was skipped then; None: nothing.
        tally: Losses of this process's part; empty of all but tokens when it was skipped.
        slots: Sequences of this process's part.
        seconds: Time of the step.
        wait_seconds: Of these, waiting for samples.
    """

    step: int
    is_last: bool
    is_stopped: bool
    loss: float
    norm: float
    fault: str | None
    tally: Tally
    slots: list[Slot]
    seconds: float
    wait_seconds: float

    @property
    def done(self) -> int:
        """Optimizer steps done by now."""
        return self.step + 1

    def is_due(self, every: int) -> bool:
        """True when an event of every so many steps is due now; 0: never."""
        return bool(every) and self.done % every == 0


class TrainingCallback:
    """Does nothing at any moment; subclasses override what they need.

    Attributes:
        run: The run, from `prepare` on.
        name: Key of `state` in a checkpoint's trainer.json; empty: it has none.
    """

    run: TrainingRun
    name = ""

    def prepare(self) -> Any:
        """Called in the first process alone; what it returns goes to `prepared` in all."""
        return None

    def prepared(self, told: Any) -> None:
        """Takes what the first process's `prepare` returned."""

    def around(self) -> AbstractContextManager[Any]:
        """A context that is entered before the engine is built."""
        return nullcontext()

    def opened(self) -> None:
        """The engine is there."""

    def before_step(self, step: int) -> None:
        """Step `step`, from 0, comes next."""

    def doing(self, what: str) -> None:
        """This process does `what` next, such as `step 7: reading`."""

    def alarm(self) -> bool:
        """True when something is wrong in this process; asked in every step, takes no time."""
        return False

    def alarmed(self) -> None:
        """Called in all processes when one of them gave alarm; may end the run for all."""

    def loss_fault(self, loss: float) -> str | None:
        """Fault in the mean loss of a batch; None: no fault. The same in all processes."""
        return None

    def norm_fault(self, norm: float) -> str | None:
        """Fault in a gradient norm; None: no fault. The same in all processes."""
        return None

    def after_step(self, outcome: StepOutcome) -> None:
        """A step is over."""

    def saved(self, step: int) -> None:
        """The checkpoint after `step` steps counts; told in the first process."""

    def state(self) -> Mapping[str, Any]:
        """State for a resumed run, for JSON; comes back as `run.resumed.trainer[name]`."""
        return {}

    def finish(self) -> None:
        """Behind the last step, before the contexts end."""

    def close(self, *, ended: bool) -> None:
        """Frees what is open; raises nothing.

        Args:
            ended: All steps are done, so that there is time to wait for what is still at work.
        """


def _unwritten(kind: str, step: int, values: Mapping[str, Any]) -> None:
    """Records without a writer go nowhere."""


@dataclass(kw_only=True)
class TrainingRun:
    """A run as its callbacks see it; they share it and may replace `stream` and `record`.

    Args:
        training: Settings.
        processes: This process and the others.
        folder: Where everything goes.
        config: The resolved experiment as plain dicts.
        stream: What the next steps learn from.
        callbacks: All of them, in order.
        start: First step of this process's work.
        resumed: The checkpoint that it goes on from.
        engine: The model and its optimizer, from `opened` on.
        record: Writes a record into metrics.jsonl: kind, steps done, values.
    """

    training: TrainingConfig
    processes: Processes
    folder: Path
    config: Mapping[str, Any]
    stream: Stream
    callbacks: list[TrainingCallback] = field(default_factory=list)
    start: int = 0
    resumed: Checkpoint | None = None
    engine: TrainingEngine | None = None
    record: Callable[[str, int, Mapping[str, Any]], None] = _unwritten

    def doing(self, what: str) -> None:
        """Tells all callbacks what this process does next."""
        for callback in self.callbacks:
            callback.doing(what)

    def saved(self, step: int) -> None:
        """Tells all callbacks of a checkpoint that counts."""
        for callback in self.callbacks:
            callback.saved(step)

    def states(self) -> dict[str, Any]:
        """States of the callbacks that a checkpoint keeps."""
        return {each.name: each.state() for each in self.callbacks if each.name}


CALLBACKS: Registry[type[TrainingCallback]] = Registry("training callback")
"""Those that `training.callbacks` may name."""


def _import_folder() -> None:
    """Imports every file of this folder, whose callbacks register themselves."""
    from db1.training import callbacks

    for module in pkgutil.iter_modules(callbacks.__path__):
        importlib.import_module(f"{callbacks.__name__}.{module.name}")


CALLBACKS.before_use(_import_folder)


def first_fault(faults: Iterable[str | None]) -> str | None:
    """The first word against a batch; None where nobody has one."""
    return next((fault for fault in faults if fault is not None), None)
