"""Round numbers for the ends and the labels of an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear axis.

    Args:
        low, high: Its ends.
        ticks: Numbers to label, ascending, within the ends.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Position of a value on an axis, 0 at the low end and 100 at the high one; clipped."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def axis(
    low: float, high: float, num_ticks: int = 5, *, is_round: bool = True, is_whole: bool = False
) -> Axis:
    """An axis over [low, high].

    Args:
        low, high: What it must cover.
        num_ticks: About how many labels.
        is_round: Widen the ends to labels; else they stay.
        is_whole: Label whole numbers only, and an upper end that stays.

    Example: axis(0, 8.05) ends at 10 with the labels 0, 2, 4, 6, 8, 10.
    """
    if not high > low:
        low, high = low - 0.5, low + 0.5
    step = _step((high - low) / num_ticks)
    step = max(1.0, step) if is_whole else step
    first, last = math.floor(low / step), math.ceil(high / step)
    if is_round:
        low, high = first * step, last * step
    near = step * 1e-9
    every = (round(n * step, 12) for n in range(first, last + 1))
    ticks = tuple(tick for tick in every if low - near <= tick <= high + near)
    if is_whole and not is_round:
        ticks = (*(tick for tick in ticks if tick <= high - step / 2), high)
    if not ticks:  # ends that stay lie between two labels
        return axis(low, high, 2 * num_ticks, is_round=is_round, is_whole=is_whole)
    return Axis(low=low, high=high, ticks=ticks)


def _step(rough: float) -> float:
    """The smallest of 1, 2, 5, 10 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
