"""Means and standard deviations of the continuous numbers of number patches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from db1.data.sources import EpisodeSource
from db1.tokens.number_patch import CONTINUOUS_CODE

_EPISODES_EACH = 8
"""Episodes of a store that are read."""
_LEAST_DEVIATION = 1e-3


def number_ranges(
    sources: Iterable[EpisodeSource],
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Measures the numbers of some demonstrations of every task, pooled by layout and place.

    Args:
        sources: Training sources; those without number patches are passed over.

    Returns:
        For each layout its means and standard deviations, float64 (G,); both are 0 where no
        continuous number was. A number that never changes has the deviation 1.

    Raises:
        DataError: A store is broken.
    """
    sums: dict[int, np.ndarray] = {}
    for source in sources:
        for patches in source.number_patches(_EPISODES_EACH):
            values = patches.values.astype(np.float64)
            present = patches.codes == CONTINUOUS_CODE
            for layout in np.unique(patches.layouts).tolist():
                rows = patches.layouts == layout
                total = sums.setdefault(layout, np.zeros((3, values.shape[1])))
                total += (
                    present[rows].sum(0),
                    (values[rows] * present[rows]).sum(0),
                    (values[rows] ** 2 * present[rows]).sum(0),
                )
    return {layout: _moments(*total) for layout, total in sums.items()}


def _moments(count: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, ...]:
    divisor = np.maximum(count, 1)
    means = total / divisor
    deviations = np.sqrt(np.maximum(squares / divisor - means**2, 0.0))
    deviations = np.where(deviations < _LEAST_DEVIATION, 1.0, deviations)
    return means, np.where(count > 0, deviations, 0.0)
