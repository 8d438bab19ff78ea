"""Interface of evaluation metrics: a figure of each task's episodes, and one over all tasks.

    of_task      the episodes of one task  (..., E)          -> its value (...,), or None
    over_tasks   the values of all tasks   (..., num_tasks)  -> the metric (...,)

A metric is a class entered in `METRICS`, in a file of this folder or in a plug-in. Its values stand
in results.json: a task's in `tasks.<task>.metrics`, that over tasks with a bootstrap interval in
`summary.metrics`. Leading axes are resamples of the bootstrap: a metric reduces the last axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from db1.metrics.scores import normalise
from db1.registry import Registry


@dataclass(frozen=True, kw_only=True)
class TaskEpisodes:
    """Episodes of one task, E of them along the last axis, in the order of their seeds.

    Args:
        returns: Undiscounted returns, float64 (..., E).
        lengths: Steps, int64 (..., E).
        successes: float64 (..., E), 1 and 0, nan for an episode that does not tell; None where none
            of them does.
        random: Mean return of random actions; None without references.
        expert: Mean return of the expert; None without references.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None
    random: float | None
    expert: float | None

    @staticmethod
    def of_entry(entry: Mapping[str, Any]) -> TaskEpisodes:
        """Episodes of a task's entry in results.json."""
        told = np.array(entry.get("successes") or [None], dtype=np.float64)
        is_scored = entry["reference"] is not None
        return TaskEpisodes(
            returns=np.array(entry["returns"], dtype=np.float64),
            lengths=np.array(entry["lengths"], dtype=np.int64),
            successes=None if np.isnan(told).all() else told,
            random=entry["random"] if is_scored else None,
            expert=entry["expert"] if is_scored else None,
        )

    @property
    def num_episodes(self) -> int:
        """E."""
        return self.returns.shape[-1]

    @cached_property
    def scores(self) -> np.ndarray | None:
        """Normalised returns, 0 random and 1 expert, float64 (..., E); None without references."""
        if self.random is None or self.expert is None:
            return None
        return normalise(self.returns, self.random, self.expert)

    @cached_property
    def mean_score(self) -> np.ndarray | None:
        """Mean of `scores`, float64 (...,); None without references."""
        return None if self.scores is None else self.scores.mean(axis=-1)

    def take(self, picks: np.ndarray) -> TaskEpisodes:
        """Resamples episodes (E,) by their indices, int64 (R, E): episodes (R, E)."""
        return TaskEpisodes(
            returns=self.returns[picks],
            lengths=self.lengths[picks],
            successes=None if self.successes is None else self.successes[picks],
            random=self.random,
            expert=self.expert,
        )


class Metric(ABC):
    """A figure of an evaluation.

    Attributes:
        title: Name in tables and reports.
        is_share: Shown as a percentage.
        is_field: Stands in the summary itself, where it was before there were other metrics.
    """

    title: ClassVar[str]
    is_share: ClassVar[bool] = False
    is_field: ClassVar[bool] = False

    @abstractmethod
    def of_task(self, episodes: TaskEpisodes) -> np.ndarray | None:
        """Reduces the episodes (..., E) of a task to a value (...,).

        Returns:
            Finite numbers; None where the task lacks what the metric needs.
        """

    def over_tasks(self, values: np.ndarray) -> np.ndarray:
        """Reduces the values (..., num_tasks) of the tasks that have one to (...,): their mean."""
        return values.mean(axis=-1)


class ScoreMetric(Metric):
    """A statistic of the tasks' mean normalised scores; subclasses say which in `over_tasks`."""

    is_share = True

    def of_task(self, episodes: TaskEpisodes) -> np.ndarray | None:
        """The mean score (...,)."""
        return episodes.mean_score


METRICS: Registry[type[Metric]] = Registry("evaluation metric")
