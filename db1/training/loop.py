"""The training loop: data, engine, and callbacks for everything else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from db1.checkpoint.adapter import ModelFiles
from db1.checkpoint.run import Checkpoint, find_checkpoint, tidy_checkpoints
from db1.data.loader import SampleDataset
from db1.errors import DataError
from db1.runtime import deterministic_algorithms
from db1.seeding import seed_everything
from db1.training.callbacks.protocol import StepOutcome, Stream, TrainingRun, first_fault
from db1.training.callbacks.standard import standard_callbacks
from db1.training.config import TrainingConfig
from db1.training.engines import make_engine
from db1.training.engines.engine import read_losses
from db1.training.faults.guard import slots_of
from db1.training.faults.stopping import StopRequest
from db1.training.metrics.context import MetricsContext
from db1.training.metrics.tally import Tally
from db1.training.mixture import RunMixture
from db1.training.processes import Processes
from db1.training.schedule import learning_rate_at
from db1.training.state.resume import prepare_folder
from db1.training.state.run_data import RunData
from db1.training.state.run_lock import RunLock
from db1.training.state.saving import check_resumable, restore_training
from db1.training.step_loader import StepLoader

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """End of a training.

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
        context: Facts about datasets and model for the records.
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
        context: MetricsContext | None = None,
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
        self._training = training
        self._run_folder = Path(run_folder)
        self._lock = RunLock(self._run_folder)
        self._config = config
        self._run_files = run_files
        self._files = files or ModelFiles()
        self._stop = StopRequest()
        self._complete = complete
        self._callbacks = standard_callbacks(
            training.callbacks, context or MetricsContext(), mixture, evaluation_sets, run_data
        )

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
        processes = Processes(training.engine)
        training.check_processes(processes.world_size, processes.device.type)
        run = TrainingRun(
            training=training,
            processes=processes,
            folder=self._run_folder,
            config=self._config,
            stream=Stream(dataset=self._dataset, stop=training.num_steps),
            callbacks=self._callbacks,
        )
        for callback in run.callbacks:
            callback.run = run
        try:
            return self._run(run)
        finally:
            self._lock.release()

    def _run(self, run: TrainingRun) -> TrainingResult:
        self._prepare(run)
        if run.start >= run.training.num_steps:
            logger.info("%s: already at step %d, nothing to do", run.folder, run.start)
            return TrainingResult(step=run.start, stopped=False)
        ended = False
        try:
            with ExitStack() as around:
                for callback in run.callbacks:
                    around.enter_context(callback.around())
                around.enter_context(deterministic_algorithms(run.training.deterministic))
                self._build_engine(run)
                for callback in run.callbacks:
                    callback.opened()
                with self._stop:
                    result = self._take_steps(run)
                    for callback in run.callbacks:
                        callback.finish()
            ended = not result.stopped
        finally:
            if run.engine:
                run.engine.close()
            for callback in reversed(run.callbacks):
                callback.close(ended=ended)
        if result.stopped:
            logger.info("SIGTERM: saved at step %d, the same command goes on", result.step)
        return result

    def _prepare(self, run: TrainingRun) -> None:
        """The first process checks the run folder and finds the checkpoint for all."""

        def work() -> tuple[Checkpoint | None, list[Any]] | None:
            if run.processes.rank:
                return None
            self._lock.acquire()
            prepare_folder(run.folder, self._config, self._run_files, self._complete)
            found = find_checkpoint(run.folder)
            run.start = found.step if found else 0
            prepared = [callback.prepare() for callback in run.callbacks]
            tidy_checkpoints(run.folder, run.start)
            return found, prepared

        _, told = run.processes.run_and_gather(work, lambda result: result)
        run.resumed, prepared = told[0]
        if run.resumed:
            run.start = run.resumed.step
            logger.info("%s: going on from step %d", run.folder, run.start)
        for callback, word in zip(run.callbacks, prepared, strict=True):
            callback.prepared(word)

    def _build_engine(self, run: TrainingRun) -> None:
        run.doing("building the model")
        seed_everything(run.training.seed)  # the same weights in every process
        found = run.resumed
        if found:
            check_resumable(found)
        run.doing("building the engine")
        run.engine = make_engine(
            self._make_model(), run.training, run.processes, resumes=found, files=self._files
        )
        seed_everything(run.training.seed, run.processes.rank)
        if found:
            run.doing(f"loading {found.folder.name}")
            restore_training(found, run.engine, run.processes)

    def _take_steps(self, run: TrainingRun) -> TrainingResult:
        stream: Stream | None = None
        for step in range(run.start, run.training.num_steps):
            for callback in run.callbacks:
                callback.before_step(step)
            if stream is not run.stream:
                stream = run.stream
                loader = StepLoader(stream.dataset, run.training, run.processes, step, stream.stop)
            outcome = self._take_step(run, step, loader)
            for callback in run.callbacks:
                callback.after_step(outcome)
            if outcome.is_stopped and outcome.done < run.training.num_steps:
                return TrainingResult(step=outcome.done, stopped=True)
        return TrainingResult(step=run.training.num_steps, stopped=False)

    def _take_step(self, run: TrainingRun, step: int, loader: StepLoader) -> StepOutcome:
        """One optimizer step, or a skipped batch."""
        started = time.perf_counter()
        run.doing(f"step {step}: reading")
        micro_batches, total_targets = loader.read(step)
        waited = time.perf_counter() - started
        scale = run.engine.loss_scale(total_targets)
        losses = []
        for batch in micro_batches:
            run.doing(f"step {step}: forward and backward")
            losses.append(run.engine.train_micro_batch(batch, scale))
        tally, slots = Tally(), []
        for batch, values, first_slot in zip(
            micro_batches, read_losses(losses), loader.first_slots, strict=True
        ):
            tally.add(values, batch.sources, batch.ids.numel())
            slots += slots_of(values, batch.sources, first_slot)
        run.doing(f"step {step}: summing losses")
        alarms = [float(callback.alarm()) for callback in run.callbacks]
        total, stop, *alarms = run.processes.sum(
            [sum(tally.losses.values()), float(self._stop.asked), *alarms]
        )
        for callback, alarm in zip(run.callbacks, alarms, strict=True):
            if alarm:
                callback.alarmed()
        loss = total / total_targets
        run.doing(f"step {step}: optimizer")
        norm, fault = _step_or_skip(run, step, loss)
        is_stopped = stop > 0
        return StepOutcome(
            step=step,
            is_last=is_stopped or step + 1 == run.training.num_steps,
            is_stopped=is_stopped,
            loss=loss,
            norm=norm,
            fault=fault,
            tally=Tally(tokens=tally.tokens) if fault else tally,
            slots=slots,
            seconds=time.perf_counter() - started,
            wait_seconds=waited,
        )


def _step_or_skip(run: TrainingRun, step: int, loss: float) -> tuple[float, str | None]:
    """Takes the optimizer step unless a callback objects; returns gradient norm and objection."""
    fault = first_fault(callback.loss_fault(loss) for callback in run.callbacks)

    def accept(norm: float) -> bool:
        nonlocal fault
        fault = fault or first_fault(callback.norm_fault(norm) for callback in run.callbacks)
        return fault is None

    norm = run.engine.step(learning_rate_at(step, run.training), accept)
    return norm, fault
