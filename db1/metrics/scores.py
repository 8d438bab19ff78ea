"""Expert-normalised scores, and bootstrap intervals.

A task's score is (mean return - random) / (expert - random): 0 is uniform random, 1 the expert.
Source: Reed et al. 2022, section 4.1 ("percentage of expert score").
"""

from __future__ import annotations

import numpy as np

from db1.errors import DataError

NUM_RESAMPLES = 2_000
CONFIDENCE = 0.95
THRESHOLDS = tuple(range(0, 101, 5))
"""Percentages of expert score of the threshold curve."""


def normalise(returns: np.ndarray, random: float, expert: float) -> np.ndarray:
    """(returns - random) / (expert - random) of returns (...,), float64 (...,).

    Raises:
        DataError: When expert and random reference are equal or not finite.
    """
    span = expert - random
    if not np.isfinite(span) or span == 0:
        raise DataError(
            f"reference returns random {random}, expert {expert} do not span a score; "
            f"collect the references again with a better expert"
        )
    return (np.asarray(returns, dtype=np.float64) - random) / span


def resampled_means(
    values: np.ndarray, rng: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> np.ndarray:
    """Means of `num_resamples` draws with replacement of all values (E,), float64."""
    values = np.asarray(values, dtype=np.float64)
    picks = rng.integers(0, len(values), size=(num_resamples, len(values)))
    return values[picks].mean(axis=1)


def percentile_interval(samples: np.ndarray) -> list[float]:
    """[low, high] that hold the middle 95 % of the samples (N,)."""
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(samples, [tail, 100.0 - tail])
    return [float(low), float(high)]


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> list[float]:
    """95 % percentile bootstrap interval of the mean of `values` (E,): [low, high]."""
    return percentile_interval(resampled_means(values, np.random.default_rng(seed)))


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the values between the quartiles, over the last axis: (..., N) -> (...,).

    floor(n / 4) values are dropped at each end (Agarwal et al. 2021, "Deep Reinforcement Learning
    at the Edge of the Statistical Precipice").
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def threshold_curve(task_means: np.ndarray) -> dict[str, list[int]]:
    """Number of tasks at or above each percentage of expert score, from mean scores (N,)."""
    counts = [int((np.asarray(task_means) >= percent / 100).sum()) for percent in THRESHOLDS]
    return {"thresholds": list(THRESHOLDS), "num_tasks": counts}
