"""Statistics of expert-normalised scores over tasks.

Source: Reed et al. 2022, section 4.1 (share of tasks at half of the expert's score); Agarwal et al.
2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (interquartile mean).
"""

from __future__ import annotations

import numpy as np

from db1.metrics.episodes.base import METRICS, ScoreMetric
from db1.metrics.scores import interquartile_mean


@METRICS.register("share_at_least_50")
class ShareAtHalf(ScoreMetric):
    """Share of tasks with at least half of the expert's score."""

    title = "tasks at or above 50 % of expert"
    is_field = True

    def over_tasks(self, values: np.ndarray) -> np.ndarray:
        """(..., num_tasks) -> (...,)."""
        return (values >= 0.5).mean(axis=-1)


@METRICS.register("mean_normalised")
class MeanScore(ScoreMetric):
    """Mean score over tasks."""

    title = "mean normalised score"
    is_field = True


@METRICS.register("median_normalised")
class MedianScore(ScoreMetric):
    """Median score over tasks."""

    title = "median normalised score"
    is_field = True

    def over_tasks(self, values: np.ndarray) -> np.ndarray:
        """(..., num_tasks) -> (...,)."""
        return np.median(values, axis=-1)


@METRICS.register("interquartile_mean")
class InterquartileMean(ScoreMetric):
    """Mean of the middle half of the tasks' scores."""

    title = "interquartile mean"
    is_field = True

    def over_tasks(self, values: np.ndarray) -> np.ndarray:
        """(..., num_tasks) -> (...,)."""
        return interquartile_mean(values)
