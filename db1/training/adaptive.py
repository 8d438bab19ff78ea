"""Shares that follow learning progress: a task that learns more gets more of the sequences.

Every `period` steps the loss of each dataset's held-out samples is measured, and the shares of the
next period are set from how much it fell:

    progress p = (loss before - loss now) / (share / configured share)     what one share brought
    smoothed m = smoothing * m before + (1 - smoothing) * p                from the first period on
    weight   w = round(1000 * m), at least 0                               in thousandths of a nat
    share      = floor * c + (1 - floor) * c w / sum(c w)                  c: configured share

so that no dataset falls below `floor` of its configured share; without any progress the configured
shares hold. Worked example: floor 1/2, c = 1/2 and 1/2, losses 2.0, 2.0 -> 1.7, 1.9: w = 300, 100,
shares 1/4 + 3/8 = 5/8 and 1/4 + 1/8 = 3/8.

The losses and the shares of each period are kept in mixture.json and nothing else is: a decision
is a function of what stands there, of the configuration, and of held-out losses that are the same
for any number of processes up to rounding, which the thousandths absorb (but for a loss within
rounding of half a thousandth). Within a period the blend is exact, see `db1.data.mixture`.

Source: Graves et al. 2017, "Automated Curriculum Learning for Neural Networks", section 3 (loss as
the signal of progress); floors and shares in place of a bandit are db1's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from db1.data.schedule import MixturePhase
from db1.errors import ConfigError
from db1.ranges import Checked, Count, Range, Rate

STEPS_PER_NAT = 1_000


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(Checked):
    """Timing and strength with which shares follow progress, see the module's docstring.

    Args:
        period: Steps between two changes.
        floor: Part of its configured share that every dataset keeps.
        smoothing: Weight of the past in the progress.
    """

    period: Count
    floor: Annotated[float, Range(above=0, most=1)] = 0.5
    smoothing: Rate = 0.5


def check_heldout(
    config: AdaptiveConfig | None, datasets: Iterable[str], sets: Iterable[str]
) -> None:
    """Refuses an adaptive mixture of datasets without held-out samples.

    Raises:
        ConfigError: Naming them.
    """
    missing = sorted(set(datasets) - set(sets))
    if config is not None and missing:
        raise ConfigError(
            f"adaptive: no held-out samples of {', '.join(missing)} to measure progress on; set "
            "data.heldout_share above 0"
        )


def adapted_shares(
    configured: Mapping[str, Fraction],
    periods: Sequence[MixturePhase],
    losses: Mapping[str, float],
    config: AdaptiveConfig,
) -> list[tuple[str, Fraction]]:
    """The shares of the next period.

    Args:
        configured: Shares of the configuration, by dataset.
        periods: Past periods, each with the losses at its start.
        losses: Held-out losses now; a dataset without one makes no progress.
        config: See `AdaptiveConfig`.

    Returns:
        Exact shares, in the order of `configured`; they sum to 1.
    """
    weights = {
        name: max(0, round(STEPS_PER_NAT * value))
        for name, value in smoothed_progress(configured, periods, losses, config).items()
    }
    total = sum((configured[name] * weights[name] for name in configured), Fraction(0))
    if not total:
        return list(configured.items())
    floor = Fraction(repr(config.floor))
    return [
        (name, floor * share + (1 - floor) * share * weights[name] / total)
        for name, share in configured.items()
    ]


def smoothed_progress(
    configured: Mapping[str, Fraction],
    periods: Sequence[MixturePhase],
    losses: Mapping[str, float],
    config: AdaptiveConfig,
) -> dict[str, float]:
    """m of the module's docstring by dataset, in nats; arguments as `adapted_shares`."""
    measured = [period.losses or {} for period in periods] + [losses]
    progress = {}
    for name, share in configured.items():
        smoothed: float | None = None
        for period, before, after in zip(periods, measured, measured[1:], strict=False):
            value = _fall(before, after, name) / _boost(period, name, share)
            past = value if smoothed is None else smoothed
            smoothed = config.smoothing * past + (1 - config.smoothing) * value
        progress[name] = smoothed or 0.0
    return progress


def _fall(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    fall = before.get(name, math.nan) - after.get(name, math.nan)
    return fall if math.isfinite(fall) else 0.0


def _boost(period: MixturePhase, name: str, configured: Fraction) -> float:
    """Share of a dataset in a period, in units of its configured share."""
    return float(period.shares[name] / configured) if configured and period.shares[name] else 1.0
