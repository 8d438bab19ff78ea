"""Share of episodes that reached the goal, in tasks that have one."""

from __future__ import annotations

import numpy as np

from db1.metrics.episodes.base import METRICS, Metric, TaskEpisodes


@METRICS.register("success_rate")
class SuccessRate(Metric):
    """Share of successful episodes; over tasks, the mean of their shares."""

    title = "success"
    is_share = True

    def of_task(self, episodes: TaskEpisodes) -> np.ndarray | None:
        """(..., E) -> (...,), over the episodes that tell; None where the task never does."""
        if episodes.successes is None:
            return None
        count = (~np.isnan(episodes.successes)).sum(axis=-1)
        with np.errstate(invalid="ignore"):  # a resample of episodes that do not tell: nan
            return np.nansum(episodes.successes, axis=-1) / count
