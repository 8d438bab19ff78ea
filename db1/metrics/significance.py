"""Significance of differences: permutation tests, and intervals by resampling.

Source: Phipson and Smyth 2010 ("Permutation P-values should never be zero"); Holm 1979.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from db1.metrics.scores import NUM_RESAMPLES, percentile_interval

NUM_PERMUTATIONS = 10_000
MAX_EXACT = 13
"""Pairs up to which all 2^n swaps are tried."""


def paired_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value that paired values differ in mean, by swapping the two of each pair.

    Args:
        differences: One a pair, float (n,).
        seed: Of the draws, where there are too many swaps to try all.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n <= MAX_EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        signs = rng.choice([-1.0, 1.0], size=(NUM_PERMUTATIONS, n))
        extra = 1
    return _share_as_extreme(signs @ values / n, values.mean(), extra)


def two_sample_p_value(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value that two samples, (N,) and (M,), differ in mean, by relabelling values."""
    both = np.concatenate([first, second]).astype(np.float64)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(both, (NUM_PERMUTATIONS, 1)), axis=1)
    n = len(first)
    drawn = shuffled[:, n:].mean(axis=1) - shuffled[:, :n].mean(axis=1)
    return _share_as_extreme(drawn, float(np.mean(second) - np.mean(first)), 1)


def _share_as_extreme(drawn: np.ndarray, found: float, extra: int) -> float:
    slack = 1e-12 * max(1.0, abs(found))
    return float((np.sum(np.abs(drawn) >= abs(found) - slack) + extra) / (len(drawn) + extra))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values by name, corrected for their number (Holm 1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected, highest = {}, 0.0
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, p_values[name] * (len(ordered) - place)))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def resampled_indices(
    num_first: int, num_second: int, paired: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap draws of two samples, int64 (NUM_RESAMPLES, num_first) and (.., num_second).

    Pairs stay together: then both are the same.
    """
    picks = rng.integers(0, num_first, size=(NUM_RESAMPLES, num_first))
    others = picks if paired else rng.integers(0, num_second, size=(NUM_RESAMPLES, num_second))
    return picks, others


def difference_interval(
    first: np.ndarray, second: np.ndarray, paired: bool, seed: int = 0
) -> list[float]:
    """95 % bootstrap interval of mean(second) - mean(first), of samples (N,) and (M,)."""
    rng = np.random.default_rng(seed)
    picks, others = resampled_indices(len(first), len(second), paired, rng)
    return percentile_interval(second[others].mean(axis=1) - first[picks].mean(axis=1))
