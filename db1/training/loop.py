"""The training loop: data, engine, reports, checkpoints, and going on after an interruption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from db1.checkpoint.adapter import ModelFiles
from db1.checkpoint.run import Checkpoint, find_checkpoint, tidy_checkpoints
from db1.data.loader import SampleDataset
from db1.errors import DataError
from db1.runtime import (
    deterministic_algorithms,
    random_states,
    restore_random_states,
    seed_everything,
)
from db1.training.config import TrainingConfig
from db1.training.engines import make_engine
from db1.training.engines.engine import TrainingEngine, read_losses
from db1.training.evaluate import evaluate_sets
from db1.training.faults.guard import EVENT as EVENT_SKIPPED
from db1.training.faults.guard import Slot, StepGuard, faulty_sources, skip_record, slots_of
from db1.training.faults.stopping import StopRequest
from db1.training.faults.watchdog import Watchdog
from db1.training.metrics.context import Watch
from db1.training.metrics.progress import TrainingProgress
from db1.training.metrics.reporter import Reporter
from db1.training.metrics.tally import Tally
from db1.training.mixture import EVENT, RunMixture
from db1.training.processes import Processes
from db1.training.schedule import learning_rate_at
from db1.training.state.resume import config_hash, prepare_folder
from db1.training.state.run_data import RunData
from db1.training.state.run_lock import RunLock
from db1.training.state.saving import Saver, check_resumable, restore_training
from db1.training.step_loader import BatchDrawer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a training ended.

    Args:
        step: Optimizer steps done.
        stopped: True when a SIGTERM ended it before the last step.
    """

    step: int
    stopped: bool


class Trainer:
    """Trains a model; the same call goes on where an interrupted one was.

    Args:
        make_model: Builds the model; called once, under the run's seed.
        dataset: Sample n of the run, a pure function of n.
        evaluation_sets: Fixed samples by task.
        training: Settings.
        run_folder: Where everything goes.
        config: The resolved experiment as plain dicts, to be compared when a run is resumed.
        run_files: Text files that make the run folder self-contained, `config.yaml` among them.
        mixture: Gives the dataset once the first step is known, and logs changes of weights; None:
            `dataset` is used as it is.
        files: What a checkpoint holds of the model; None: all its weights.
        watch: What records need to know of datasets and model.
        complete: See `prepare_folder`.
        run_data: Tells whether the data are those of the run, and whole; None: that is not asked.
    """

    def __init__(
        self,
        *,
        make_model: Callable[[], nn.Module],
        dataset: SampleDataset,
        evaluation_sets: Mapping[str, SampleDataset],
        training: TrainingConfig,
        run_folder: Path,
        config: Mapping[str, Any],
        run_files: Mapping[str, str],
        mixture: RunMixture | None = None,
        files: ModelFiles | None = None,
        watch: Watch | None = None,
        complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
        run_data: RunData | None = None,
    ) -> None:
        needed = training.num_steps * training.global_batch_size
        if len(dataset) < needed:
            raise DataError(
                f"dataset of {len(dataset)} samples, expected num_steps * global_batch_size = "
                f"{training.num_steps} * {training.global_batch_size} = {needed}"
            )
        self._make_model = make_model
        self._dataset = dataset
        self._evaluation_sets = evaluation_sets
        self._training = training
        self._run_folder = Path(run_folder)
        self._lock = RunLock(self._run_folder)
        self._config = config
        self._run_files = run_files
        self._mixture = mixture
        self._files = files or ModelFiles()
        self._settled: dict[str, Any] | None = None
        self._measured: tuple[int, dict[str, Tally]] | None = None
        self._stop = StopRequest()
        self._engine: TrainingEngine | None = None
        self._reporter: Reporter | None = None
        self._watch = watch or Watch()
        self._complete = complete
        self._run_data = run_data

    def run(self) -> TrainingResult:
        """Trains to the last step, or to a SIGTERM, from the newest valid checkpoint if any.

        Raises:
            ConfigError: When the settings fit neither the machine nor the run folder, or another
                training of this run is alive.
            CheckpointError: When there are checkpoints and none is valid.
            DataError: For a broken sample, or too many batches that had to be skipped; nothing is
                saved then.
        """
        training = self._training
        if training.num_threads is not None:
            torch.set_num_threads(training.num_threads)
        self._processes = processes = Processes(training.engine)
        training.check_processes(processes.world_size, processes.device.type)
        try:
            return self._run()
        finally:
            self._lock.release()

    def _run(self) -> TrainingResult:
        training, processes = self._training, self._processes
        found = self._prepare()
        start = found.step if found else 0
        if start >= training.num_steps:
            logger.info("%s: already at step %d, nothing to do", self._run_folder, start)
            return TrainingResult(step=start, stopped=False)
        try:
            with (
                Watchdog(self._run_folder, processes, training.hang_timeout) as self._watchdog,
                deterministic_algorithms(training.deterministic),
            ):
                self._set_up(start, found)
                with self._stop:
                    result = self._train(start)
        except BaseException:
            self._close(ended=False)
            raise
        self._close(ended=not result.stopped)
        return result

    def _set_up(self, start: int, found: Checkpoint | None) -> None:
        self._watchdog.now("building the model")
        self._engine = self._build_engine(found)
        self._guard = StepGuard(self._training, found.trainer.get("guard") if found else None)
        self._reporter = self._open_reporter(start)

    def _close(self, *, ended: bool) -> None:
        """Closes what is open.

        Args:
            ended: The last step is done: wait for what is still at work beside the training.
        """
        if self._engine:
            self._engine.close()
        if self._reporter:
            self._reporter.close(finish=ended)

    def _prepare(self) -> Checkpoint | None:
        """The first process checks the run folder and finds the checkpoint for all."""

        def work() -> tuple[Checkpoint | None, dict[str, Any] | None]:
            if self._processes.rank:
                return None, None
            self._lock.acquire()
            prepare_folder(self._run_folder, self._config, self._run_files, self._complete)
            found = find_checkpoint(self._run_folder)
            start = found.step if found else 0
            if self._run_data:
                self._run_data.settle(self._run_folder)
            tidy_checkpoints(self._run_folder, start)
            return found, self._mixture.settle(start) if self._mixture else None

        _, told = self._processes.together(work, lambda result: result)
        found, self._settled = told[0]
        if found:
            logger.info("%s: going on from step %d", self._run_folder, found.step)
        if self._mixture and self._settled:
            self._dataset = self._mixture.begin(self._settled)
        return found

    def _open_reporter(self, start: int) -> Reporter:
        place = (self._training, self._processes, self._run_folder, self._config)
        reporter = Reporter(self._watch, *place, after_step=start)
        if self._mixture and self._settled:
            event = self._mixture.event(self._settled, start)
            if event:
                reporter.event(EVENT, start, event)
        return reporter

    def _build_engine(self, found: Checkpoint | None) -> TrainingEngine:
        processes, training = self._processes, self._training
        seed_everything(training.seed)  # the same weights in every process
        if found:
            check_resumable(found)
        self._watchdog.now("building the engine")
        engine = make_engine(
            self._make_model(), training, processes, resumes=found, files=self._files
        )
        seed_everything(training.seed, processes.rank)
        if found:
            self._watchdog.now(f"loading {found.folder.name}")
            restore_training(found, engine, processes)
        return engine

    def _train(self, start: int) -> TrainingResult:
        training, processes = self._training, self._processes
        drawer = self._open_drawer(start)
        saver = Saver(
            self._run_folder,
            self._engine,
            processes,
            training,
            config_hash(self._config),
            self._reporter.saved,
        )
        if self._run_data and processes.rank == 0:
            self._run_data.watch()
        try:
            result = self._take_steps(start, drawer, saver)
            self._watchdog.now("waiting for the last checkpoint")
            saver.finish()
        finally:
            if self._run_data:
                self._run_data.close()
            saver.abandon()
        if result.stopped:
            logger.info("SIGTERM: saved at step %d, the same command goes on", result.step)
        return result

    def _take_steps(self, start: int, drawer: BatchDrawer, saver: Saver) -> TrainingResult:
        training, processes = self._training, self._processes
        visible = processes.rank == 0
        with TrainingProgress(training.num_steps, start, visible=visible) as progress:
            for step in range(start, training.num_steps):
                if self._mixture and self._mixture.is_due(step):
                    drawer = self._open_drawer(step)
                stop = self._take_step(step, drawer)
                done = step + 1
                last = stop or done == training.num_steps
                progress.step(done)
                self._watchdog.is_under_way = True
                saver.look()
                if last or done % training.log_every == 0:
                    self._watchdog.now(f"step {done}: writing records")
                    self._reporter.log(done, progress)
                if (last and not stop) or _is_due(done, training.eval_every):
                    self._evaluate(done)
                if last or _is_due(done, training.checkpoint_every):
                    self._watchdog.now(f"step {done}: saving")
                    saver.save(done, {"guard": self._guard.state()})
                if stop and done < training.num_steps:
                    return TrainingResult(step=done, stopped=True)
        return TrainingResult(step=training.num_steps, stopped=False)

    def _open_drawer(self, step: int) -> BatchDrawer:
        """The batches from `step` to where the shares may change next."""
        mixture, processes = self._mixture, self._processes
        if mixture and mixture.is_due(step):
            losses = {name: tally.loss for name, tally in self._measure(step).items()}
            losses = {name: loss for name, loss in losses.items() if math.isfinite(loss)}
            self._dataset, change = mixture.adapt(step, losses, write=processes.rank == 0)
            self._reporter.event(EVENT, step, change)
        stop = mixture.next_change(step) if mixture else None
        return BatchDrawer(self._dataset, self._training, processes, step, stop)

    def _take_step(self, step: int, drawer: BatchDrawer) -> bool:
        """One optimizer step, or a skipped batch; returns whether to stop behind it."""
        started = time.perf_counter()
        self._watchdog.now(f"step {step}: reading")
        drawn = drawer.draw(step)
        waited = time.perf_counter() - started
        scale = self._engine.loss_scale(drawn.total_targets)
        losses = []
        for batch in drawn.micro_batches:
            self._watchdog.now(f"step {step}: forward and backward")
            losses.append(self._engine.train_micro_batch(batch, scale))
        tally, slots = Tally(), []
        for batch, values, first_slot in zip(
            drawn.micro_batches, read_losses(losses), drawn.first_slots, strict=True
        ):
            tally.add(values, batch.sources, batch.ids.numel())
            slots += slots_of(values, batch.sources, first_slot)
        self._watchdog.now(f"step {step}: summing losses")
        damaged = self._run_data is not None and self._run_data.is_damaged
        loss, stop, damages = self._processes.sum(
            [sum(tally.losses.values()), float(self._stop.asked), float(damaged)]
        )
        if damages and self._run_data:
            self._processes.together(self._run_data.raise_found, lambda nothing: None)
        norm, fault = self._step_or_skip(step, loss / drawn.total_targets)
        if fault:
            self._tell_of_skip(step, fault, slots)
            tally = Tally(tokens=tally.tokens)
        self._reporter.step(tally, norm, time.perf_counter() - started, waited)
        return stop > 0

    def _step_or_skip(self, step: int, loss: float) -> tuple[float, str | None]:
        """Returns the gradient norm and what was wrong with the batch."""
        guard = self._guard
        fault = guard.loss_fault(loss)

        def accept(norm: float) -> bool:
            nonlocal fault
            fault = fault or guard.norm_fault(norm)
            return fault is None

        self._watchdog.now(f"step {step}: optimizer")
        norm = self._engine.step(learning_rate_at(step, self._training), accept)
        if fault:
            guard.skip()
        else:
            guard.accept(loss, norm)
        return norm, fault

    def _tell_of_skip(self, step: int, fault: str, slots: list[Slot]) -> None:
        """Logs a skipped batch; ends the run in all processes when there were too many."""
        told = self._processes.gather(slots)
        slots = sorted((slot for part in told for slot in part), key=lambda slot: slot.slot)
        record = skip_record(step, fault, slots, self._guard, self._training.global_batch_size)
        self._reporter.event(EVENT_SKIPPED, step + 1, record)
        logger.warning(
            "step %d: %s (sources %s); batch skipped, %d so far",
            step,
            fault,
            ", ".join(faulty_sources(slots)),
            self._guard.skipped,
        )
        self._guard.check_limits(step, fault, slots, self._run_folder)

    def _evaluate(self, step: int) -> None:
        if self._evaluation_sets:
            self._reporter.evaluation(step, self._measure(step))

    def _measure(self, step: int) -> dict[str, Tally]:
        """Held-out losses after `step` steps, measured once a step.

        Leaves the random states as they are: evaluating more often changes no training.
        """
        if self._measured is None or self._measured[0] != step:
            self._watchdog.now(f"step {step}: evaluating")
            states = random_states()
            self._measured = step, evaluate_sets(self._engine, self._evaluation_sets)
            restore_random_states(states)
        return self._measured[1]


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
