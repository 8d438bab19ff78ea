"""Keeps broken batches out of the weights: losses and gradients that are not finite, and spikes.

    loss = sum over all processes          not good: no step is taken, gradients are dropped
    norm = the gradient's, before a step   not good: the same

All processes see the same two numbers, so all skip alike. What the guard remembers is in the
checkpoint: a resumed run skips the batches that an uninterrupted one does.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.training.config import TrainingConfig
from db1.training.engines.engine import LossValues

EVENT = "skipped"
"""Kind of the record in metrics.jsonl that tells of a skipped batch."""

WINDOW = 100
"""Batches whose median a spike is measured by."""

ENOUGH = 20
"""Batches before which nothing is a spike."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One sequence of a batch.

    Args:
        slot: Its number in the global batch.
        source: Where it is from.
        loss: Its summed loss.
        targets: Number of its targets.
    """

    slot: int
    source: str
    loss: float
    targets: int

    @property
    def mean_loss(self) -> float:
        """Loss a target; infinite when it is not finite, so that it is the largest."""
        mean = self.loss / self.targets if self.targets else 0.0
        return mean if math.isfinite(mean) else math.inf


class StepGuard:
    """Judges every step, counts what is skipped, and ends the run when it is too much.

    Args:
        training: Gives the limits.
        state: From `state` of an earlier guard; None: a fresh one.
    """

    def __init__(self, training: TrainingConfig, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._training = training
        self._losses: deque[float] = deque(state.get("losses", ()), maxlen=WINDOW)
        self._norms: deque[float] = deque(state.get("norms", ()), maxlen=WINDOW)
        self.skipped: int = state.get("skipped", 0)
        self._in_a_row: int = state.get("in_a_row", 0)

    def state(self) -> dict[str, Any]:
        """Memory of the guard, for JSON."""
        return {
            "losses": list(self._losses),
            "norms": list(self._norms),
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
        }

    def loss_fault(self, loss: float) -> str | None:
        """Fault in the mean loss of a batch; None: no fault."""
        return _fault("loss", loss, self._losses, self._training.loss_spike)

    def norm_fault(self, norm: float) -> str | None:
        """Fault in a gradient norm; None: no fault.

        In fp16 a norm that is not finite is the loss scaling's to mend.
        """
        if self._training.precision == "fp16" and not math.isfinite(norm):
            return None
        return _fault("gradient norm", norm, self._norms, self._training.norm_spike)

    def accept(self, loss: float, norm: float) -> None:
        """Enters a step that was taken."""
        self._losses.append(loss)
        if math.isfinite(norm):
            self._norms.append(norm)
        self._in_a_row = 0

    def skip(self) -> None:
        """Enters a batch that was skipped."""
        self.skipped += 1
        self._in_a_row += 1

    def check_limits(self, step: int, fault: str, slots: Sequence[Slot], run_folder: Path) -> None:
        """Ends the run when too much was skipped.

        Args:
            step: The step whose batch was skipped last.
            fault: What was wrong with it.
            slots: Its sequences.
            run_folder: For the command that shows the batch.

        Raises:
            DataError: Naming the batch and how to look at it.
        """
        training = self._training
        if self._in_a_row > training.max_skips_in_a_row:
            limit = f"{self._in_a_row} in a row, training.max_skips_in_a_row"
            limit += f"={training.max_skips_in_a_row}"
        elif self.skipped > training.max_skips:
            limit = f"{self.skipped} in all, training.max_skips={training.max_skips}"
        else:
            return
        first = step * training.global_batch_size
        worst = worst_slot(slots)
        raise DataError(
            f"step {step}: {fault} (sources {', '.join(faulty_sources(slots))}; samples {first} to "
            f"{first + training.global_batch_size - 1}), skipped {limit}; the newest checkpoint "
            f"is unharmed; look at the batch: db1 inspect {run_folder / 'config.yaml'} "
            f"--step {step} --slot {worst}; then mend that source or lower training.learning_rate"
        )


def skip_record(
    step: int, fault: str, slots: Sequence[Slot], guard: StepGuard, batch_size: int
) -> dict[str, Any]:
    """The record of a skipped batch.

    Args:
        step: The step, from 0.
        fault: What was wrong.
        slots: The batch's sequences.
        guard: Counts.
        batch_size: Sequences in a batch.
    """
    by_source: dict[str, list[int]] = {}
    for slot in slots:
        by_source.setdefault(slot.source, []).append(slot.slot)
    return {
        "reason": fault,
        "batch": step,
        "first_sample": step * batch_size,
        "last_sample": (step + 1) * batch_size - 1,
        "worst_slot": worst_slot(slots),
        "faulty_slots": [slot.slot for slot in slots if not math.isfinite(slot.loss)],
        "slots_by_source": by_source,
        "skipped_steps": guard.skipped,
    }


def slots_of(values: LossValues, sources: Sequence[str], first_slot: int) -> list[Slot]:
    """The sequences of a micro-batch.

    Args:
        values: Of B sequences.
        sources: Where each of them is from.
        first_slot: Slot of the first.
    """
    rows = zip(sources, values.losses, values.targets, strict=True)
    return [
        Slot(slot=first_slot + index, source=source, loss=loss, targets=targets)
        for index, (source, loss, targets) in enumerate(rows)
    ]


def worst_slot(slots: Sequence[Slot]) -> int:
    """The slot with the highest loss a target, the first one of equals."""
    return min(slots, key=lambda slot: (-slot.mean_loss, slot.slot)).slot


def faulty_sources(slots: Sequence[Slot]) -> list[str]:
    """Sources with a loss that is not finite; all of them where there is none."""
    faulty = {slot.source for slot in slots if not math.isfinite(slot.loss)}
    return sorted(faulty or {slot.source for slot in slots})


def _fault(what: str, value: float, before: Sequence[float], multiple: float) -> str | None:
    if not math.isfinite(value):
        return f"{what} is {value}"
    if not multiple or len(before) < ENOUGH:
        return None
    median = statistics.median(before)
    if value <= multiple * median:
        return None
    return f"{what} {value:.4g} is above {multiple:g} times the median {median:.4g}"
