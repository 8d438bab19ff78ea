"""Sums of losses by source, over micro-batches, steps and processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from db1.training.engines.engine import LossValues


@dataclass
class Tally:
    """Losses and targets by source since the last reset; picklable, to be gathered.

    Args:
        losses: Summed loss by source.
        targets: Number of targets by source.
        tokens: Tokens taken through the model.
    """

    losses: dict[str, float] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    tokens: int = 0

    def add(self, values: LossValues, sources: Iterable[str], tokens: int) -> None:
        """Enters one micro-batch.

        Args:
            values: Of B sequences.
            sources: The source of each of them.
            tokens: Tokens in the micro-batch.
        """
        rows = zip(sources, values.losses, values.targets, strict=True)
        for source, loss, targets in rows:
            self.losses[source] = self.losses.get(source, 0.0) + loss
            self.targets[source] = self.targets.get(source, 0) + targets
        self.tokens += tokens

    @staticmethod
    def merged(tallies: Iterable[Tally]) -> Tally:
        """The sum of several tallies."""
        total = Tally()
        for tally in tallies:
            for source, loss in tally.losses.items():
                total.losses[source] = total.losses.get(source, 0.0) + loss
            for source, targets in tally.targets.items():
                total.targets[source] = total.targets.get(source, 0) + targets
            total.tokens += tally.tokens
        return total

    @property
    def loss(self) -> float:
        """Mean loss of all targets; NaN without any."""
        targets = sum(self.targets.values())
        return sum(self.losses.values()) / targets if targets else math.nan

    @property
    def by_source(self) -> dict[str, float]:
        """Mean loss of each source that had targets, sorted by name."""
        return {
            source: loss / self.targets[source]
            for source, loss in sorted(self.losses.items())
            if self.targets[source]
        }
