"""Means of a few values with Student's 95 % interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""0.975 quantiles of Student's t by degrees of freedom, from 1. Source: any table of t."""


def mean_interval(values: Sequence[float]) -> dict[str, float | list[float] | None]:
    """`mean` of independent values and its 95 % `interval`, None for a single value.

    Worked example: 1, 2, 3 have mean 2, standard error 1 / sqrt(3), 4.303 times that is 2.484.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "interval": None}
    freedom = len(values) - 1
    factor = _T95[freedom - 1] if freedom <= len(_T95) else 1.960 + 2.4 / freedom  # within 0.01
    half = factor * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "interval": [mean - half, mean + half]}
