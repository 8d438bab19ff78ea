"""The mixture of a run that may be resumed under other weights, or follows learning progress."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from db1.data.build import SourceFactory
from db1.data.mixture import MixtureDataset
from db1.data.schedule import MixtureSchedule
from db1.metrics_log import METRICS_FILE, read_metrics
from db1.training.adaptive import AdaptiveConfig, adapted_shares
from db1.training.config import TrainingConfig

logger = logging.getLogger(__name__)

EVENT = "mixture"
"""Kind of the record in metrics.jsonl that tells of a change of weights."""


class RunMixture:
    """Settles the mixture of a run once it is known at which step it starts.

    `settle` runs in the first process only, the rest in all.

    Args:
        factory: Makes the sources.
        training: Lengths of the run and of a step.
        run_folder: The run.
        adaptive: How shares follow learning progress; None: they stay as configured.

    Attributes:
        planned: The mixture of the configuration as if the run were new.
    """

    def __init__(
        self,
        factory: SourceFactory,
        training: TrainingConfig,
        run_folder: Path,
        adaptive: AdaptiveConfig | None = None,
    ) -> None:
        self._shares: Sequence[tuple[str, Fraction]] = factory.shares()
        self._training = training
        self._run_folder = run_folder
        self._num_samples = training.num_steps * training.global_batch_size
        self._adaptive = adaptive
        self._schedule: MixtureSchedule | None = None
        self.planned: MixtureDataset = factory.mixture(self._num_samples)

    def settle(self, start: int) -> dict[str, Any]:
        """Reads the run's schedule, adds the weights given now if they are others, and writes it.

        Args:
            start: First step to come.

        Returns:
            JSON form of the schedule, for `begin` in all processes.

        Raises:
            ConfigError: Other datasets than the run's.
            DataError: The file of the schedule is broken.
        """
        saved = MixtureSchedule.load(self._run_folder) if start else None
        if start and saved is None:
            logger.warning(
                "%s: no mixture.json; the present weights apply to all steps", self._run_folder
            )
        if saved is None:
            schedule = MixtureSchedule.plan(self._shares, self._num_samples)
        elif start >= self._training.num_steps:
            return saved.to_dict()
        else:
            schedule = saved.resumed(start, self._shares, self._left(start))
            if self._adaptive is not None:  # weights given now count from the next period on
                schedule = saved.kept(start)
        if schedule != saved:
            schedule.save(self._run_folder)
        return schedule.to_dict()

    def begin(self, settled: Mapping[str, Any]) -> MixtureDataset:
        """Returns the training stream under the schedule that the first process settled."""
        self._schedule = schedule = MixtureSchedule.from_dict(settled)
        order = schedule.order(
            self._num_samples, self._training.global_batch_size, self.planned.order.cache
        )
        order.prepare()
        return self.planned.with_order(order)

    def next_change(self, step: int) -> int:
        """First step after `step` that has shares of its own: where a period ends, or the run."""
        if self._adaptive is None:
            return self._training.num_steps
        period = self._adaptive.period
        return min((step // period + 1) * period, self._training.num_steps)

    def is_due(self, step: int) -> bool:
        """Tells whether a period starts at `step` whose shares are not decided yet."""
        if self._adaptive is None or step % self._adaptive.period or self._schedule is None:
            return False
        last = self._schedule.phases[-1]
        return last.first_step < step or last.losses is None

    def adapt(
        self, step: int, losses: Mapping[str, float], *, write: bool
    ) -> tuple[MixtureDataset, dict[str, Any]]:
        """Decides the shares of the period that starts at `step`; all processes alike.

        Args:
            step: First step of the period.
            losses: Held-out losses at this step.
            write: Whether this process writes mixture.json.

        Returns:
            The training stream, and the record of the change: `old` and `new` shares and `losses`.
        """
        assert self._schedule is not None and self._adaptive is not None
        past = self._schedule.phases
        shares = list(self._shares)
        if step:
            measured = [phase for phase in past if phase.losses is not None]
            shares = adapted_shares(dict(shares), measured, losses, self._adaptive)
        schedule = self._schedule.adapted(step, shares, losses, self._left(step))
        if write:
            schedule.save(self._run_folder)
        now = schedule.phases[-1]
        return self.begin(schedule.to_dict()), {
            "old": past[-1].used,
            "new": now.used,
            "losses": dict(losses),
        }

    def _left(self, step: int) -> int:
        """Sequences from `step` to the end."""
        return self._num_samples - step * self._training.global_batch_size

    def event(self, settled: Mapping[str, Any], start: int) -> dict[str, Any] | None:
        """The record of a change of weights at `start`; None without one, or when it is logged.

        Returns:
            `old` and `new`: shares by dataset.
        """
        phases = MixtureSchedule.from_dict(settled).phases
        if len(phases) < 2 or phases[-1].first_step != start:
            return None
        if (self._run_folder / METRICS_FILE).is_file():
            logged = [record["step"] for record in read_metrics(self._run_folder, EVENT)]
            if start in logged:
                return None
        logger.info("step %d: the mixture has other weights from here on", start)
        return {"old": phases[-2].used, "new": phases[-1].used}
