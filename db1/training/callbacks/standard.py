"""The callbacks of every training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from db1.data.loader import SampleDataset
from db1.seeding import random_states, restore_random_states
from db1.training.callbacks.protocol import CALLBACKS, StepOutcome, Stream, TrainingCallback
from db1.training.callbacks.records import Records
from db1.training.callbacks.rollouts import EVENT as ROLLOUTS
from db1.training.callbacks.rollouts import RolloutMonitor
from db1.training.evaluate import evaluate_sets
from db1.training.faults.guard import EVENT as SKIPPED
from db1.training.faults.guard import StepGuard, faulty_sources, skip_record
from db1.training.faults.watchdog import Watchdog
from db1.training.metrics.context import MetricsContext
from db1.training.metrics.records import evaluation_record
from db1.training.metrics.tally import Tally
from db1.training.mixture import EVENT as MIXTURE
from db1.training.mixture import RunMixture
from db1.training.state.resume import config_hash
from db1.training.state.run_data import RunData
from db1.training.state.saving import Saver

logger = logging.getLogger(__name__)


def standard_callbacks(
    names: tuple[str, ...],
    context: MetricsContext,
    mixture: RunMixture | None,
    evaluation_sets: Mapping[str, SampleDataset],
    run_data: RunData | None,
) -> list[TrainingCallback]:
    """The callbacks of a training, in their order.

    Args:
        names: Registered ones, `training.callbacks`.
        context: Facts about datasets and model for the records.
        mixture: Of the run; None: its dataset stays as it is.
        evaluation_sets: Fixed held-out samples by source.
        run_data: Tells whether the data are those of the run, and whole; None: that is not asked.

    Raises:
        ConfigError: For a name that is not registered.
    """
    heldout = HeldoutLosses(evaluation_sets, context)
    return [
        HangWatch(),
        *([WholeData(run_data)] if run_data else []),
        SkippedBatches(),
        Records(context),
        *([MixtureChanges(mixture, heldout)] if mixture else []),
        heldout,
        Rollouts(),
        *(CALLBACKS[name]() for name in names),
        Checkpoints(),  # the last one, so that it saves what the others know of this step
    ]


class HangWatch(TrainingCallback):
    """Ends a run of several processes when one of them hangs; see watchdog.py."""

    def around(self) -> AbstractContextManager[Any]:
        """The watchdog's thread."""
        run = self.run
        self._watchdog = Watchdog(run.folder, run.processes, run.training.hang_timeout)
        return self._watchdog

    def doing(self, what: str) -> None:
        """Is progress."""
        self._watchdog.now(what)

    def after_step(self, outcome: StepOutcome) -> None:
        """From the first step on, steps are expected."""
        self._watchdog.is_under_way = True


class WholeData(TrainingCallback):
    """Refuses data that are not the run's, and ends it when they are damaged; see run_data.py.

    Args:
        data: Of the run.
    """

    def __init__(self, data: RunData) -> None:
        self._data = data

    def prepare(self) -> None:
        """Compares the data with those of the run so far."""
        self._data.settle(self.run.folder)

    @contextmanager
    def around(self) -> Iterator[None]:
        """The thread that compares everything ends with the training."""
        try:
            yield
        finally:
            self._data.close()

    def opened(self) -> None:
        """Begins to compare everything, in the first process."""
        if self.run.processes.rank == 0:
            self._data.watch()

    def alarm(self) -> bool:
        """True when damage was found."""
        return self._data.is_damaged

    def alarmed(self) -> None:
        """Ends the run.

        Raises:
            DataError: In all processes, naming the damage.
        """
        self.run.processes.run_and_gather(self._data.raise_found, lambda nothing: None)


class SkippedBatches(TrainingCallback):
    """Keeps broken batches out of the weights; see guard.py."""

    name = "guard"

    def opened(self) -> None:
        """Remembers what an earlier process saw."""
        run = self.run
        seen = run.resumed.trainer.get(self.name) if run.resumed else None
        self._guard = StepGuard(run.training, seen)

    def loss_fault(self, loss: float) -> str | None:
        """Not finite, or a spike."""
        return self._guard.loss_fault(loss)

    def norm_fault(self, norm: float) -> str | None:
        """Not finite, or a spike."""
        return self._guard.norm_fault(norm)

    def after_step(self, outcome: StepOutcome) -> None:
        """Counts, and logs a skipped batch.

        Raises:
            DataError: In all processes, when there were too many.
        """
        if outcome.fault is None:
            self._guard.accept(outcome.loss, outcome.norm)
            return
        self._guard.skip()
        run, step, fault = self.run, outcome.step, outcome.fault
        told = run.processes.gather(outcome.slots)
        slots = sorted((slot for part in told for slot in part), key=lambda slot: slot.slot)
        record = skip_record(step, fault, slots, self._guard, run.training.global_batch_size)
        run.record(SKIPPED, outcome.done, record)
        logger.warning(
            "step %d: %s (sources %s); batch skipped, %d so far",
            step, fault, ", ".join(faulty_sources(slots)), self._guard.skipped,
        )  # fmt: skip
        self._guard.check_limits(step, fault, slots, run.folder)

    def state(self) -> Mapping[str, Any]:
        """A resumed run skips the batches that an uninterrupted one does."""
        return self._guard.state()


class HeldoutLosses(TrainingCallback):
    """Measures the losses of fixed held-out samples.

    Args:
        sets: Samples by source.
        context: Groups of sources.
    """

    def __init__(self, sets: Mapping[str, SampleDataset], context: MetricsContext) -> None:
        self._sets, self._context = sets, context
        self._measured: tuple[int, dict[str, Tally]] | None = None

    def after_step(self, outcome: StepOutcome) -> None:
        """Writes a record when one is due."""
        is_end = outcome.is_last and not outcome.is_stopped
        if not self._sets or not (is_end or outcome.is_due(self.run.training.eval_every)):
            return
        record = evaluation_record(self.measure(outcome.done), self._context.group_of)
        self.run.record("evaluation", outcome.done, record)
        logger.info("step %d  evaluation loss %.4f", outcome.done, record["loss"])

    def measure(self, step: int) -> dict[str, Tally]:
        """Held-out losses after `step` steps by source, measured once a step.

        Leaves the random states as they are: evaluating more often changes no training.
        """
        if self._measured is None or self._measured[0] != step:
            self.run.doing(f"step {step}: evaluating")
            states = random_states()
            self._measured = step, evaluate_sets(self.run.engine, self._sets)
            restore_random_states(states)
        return self._measured[1]


class MixtureChanges(TrainingCallback):
    """Gives the run its stream of samples, and others where its shares change.

    Args:
        mixture: Of the run.
        heldout: Measures what adaptive shares follow.
    """

    def __init__(self, mixture: RunMixture, heldout: HeldoutLosses) -> None:
        self._mixture, self._heldout = mixture, heldout
        self._settled: dict[str, Any] = {}

    def prepare(self) -> dict[str, Any]:
        """Reads the run's schedule."""
        return self._mixture.settle(self.run.start)

    def prepared(self, told: dict[str, Any]) -> None:
        """Begins the stream."""
        self._settled = told
        self._begin(self._mixture.begin(told), self.run.start)

    def opened(self) -> None:
        """Logs weights that are others than before."""
        event = self._mixture.event(self._settled, self.run.start)
        if event:
            self.run.record(MIXTURE, self.run.start, event)

    def before_step(self, step: int) -> None:
        """Decides the shares of a period that begins."""
        if not self._mixture.is_due(step):
            return
        losses = {name: tally.loss for name, tally in self._heldout.measure(step).items()}
        losses = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
        dataset, change = self._mixture.adapt(step, losses, write=self.run.processes.rank == 0)
        self.run.record(MIXTURE, step, change)
        self._begin(dataset, step)

    def _begin(self, dataset: SampleDataset, step: int) -> None:
        self.run.stream = Stream(dataset=dataset, stop=self._mixture.next_change(step))


class Rollouts(TrainingCallback):
    """Lets checkpoints act beside the training; see rollouts.py. The first process has them."""

    _monitor: RolloutMonitor | None = None

    def opened(self) -> None:
        """The checkpoint that the run goes on from may not have acted yet."""
        run = self.run
        if run.processes.rank:
            return
        self._monitor = RolloutMonitor(
            run.training.rollouts,
            run.folder,
            run.config,
            lambda step, values: run.record(ROLLOUTS, step, values),
        )
        if run.start:
            self._monitor.offer(run.start)

    def after_step(self, outcome: StepOutcome) -> None:
        """Takes what came back."""
        if self._monitor:
            self._monitor.look()

    def saved(self, step: int) -> None:
        """Offers a checkpoint."""
        if self._monitor:
            self._monitor.offer(step, last=step == self.run.training.num_steps)

    def close(self, *, ended: bool) -> None:
        """Waits for those at work when the training is over, else ends them."""
        if self._monitor:
            self._monitor.close(finish=ended)


class Checkpoints(TrainingCallback):
    """Saves the run's state; see saving.py."""

    _saver: Saver | None = None

    @contextmanager
    def around(self) -> Iterator[None]:
        """On the way out of a run that failed, a checkpoint under way is waited for."""
        try:
            yield
        finally:
            if self._saver:
                self._saver.abandon()

    def opened(self) -> None:
        """From here on there is something to save."""
        run = self.run
        assert run.engine is not None
        self._saver = Saver(
            run.folder, run.engine, run.processes, run.training, config_hash(run.config), run.saved
        )

    def after_step(self, outcome: StepOutcome) -> None:
        """Saves when it is due, after the last step, and at a SIGTERM.

        Raises:
            CheckpointError: In all processes, when one cannot write, now or the time before.
        """
        assert self._saver is not None
        self._saver.look()
        if outcome.is_last or outcome.is_due(self.run.training.checkpoint_every):
            self.run.doing(f"step {outcome.done}: saving")
            self._saver.save(outcome.done, self.run.states())

    def finish(self) -> None:
        """Waits for the last one.

        Raises:
            CheckpointError: In all processes, when it could not be written.
        """
        assert self._saver is not None
        self.run.doing("waiting for the last checkpoint")
        self._saver.finish()
