"""Metrics of an evaluation's tasks, and their summary over tasks with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.metrics.episodes import METRICS, Metric, ScoreMetric, TaskEpisodes
from db1.metrics.scores import NUM_RESAMPLES, percentile_interval, threshold_curve


def all_metrics() -> dict[str, Metric]:
    """Every registered metric by name."""
    return {name: METRICS[name]() for name in METRICS}


@dataclass(frozen=True)
class ShownMetric:
    """A column of a table.

    Args:
        title: Its head.
        is_share: Values are percentages.
    """

    title: str
    is_share: bool


def shown_metrics(results: Mapping[str, Any]) -> dict[str, ShownMetric]:
    """The metrics by name that some task of results.json has, those of absent plug-ins included."""
    metrics, stored = all_metrics(), results["summary"].get("metrics", {})
    names = dict.fromkeys(
        name for entry in results["tasks"].values() for name in entry.get("metrics", {})
    )
    shown = {}
    for name in names:
        if name in stored:
            shown[name] = ShownMetric(stored[name]["title"], stored[name]["is_share"])
        elif name in metrics:
            shown[name] = ShownMetric(metrics[name].title, metrics[name].is_share)
        else:
            shown[name] = ShownMetric(name, is_share=False)
    return shown


def task_metrics(task: str, episodes: TaskEpisodes) -> dict[str, float]:
    """The `metrics` of a task in results.json: those that it has a value of, but for its score.

    Raises:
        DataError: When a metric fails on its episodes.
    """
    values = {}
    for name, metric in all_metrics().items():
        if not isinstance(metric, ScoreMetric):
            value = measured(name, metric, episodes, task)
            if value is not None:
                values[name] = float(value)
    return values


def summarise(tasks: Mapping[str, TaskEpisodes], seed: int = 0) -> dict[str, Any]:
    """The `summary` of results.json over tasks.

    Args:
        tasks: Episodes by task id.
        seed: Of the stratified bootstrap: each task's episodes are drawn again within the task.

    Returns:
        Over the tasks with references: num_tasks, num_at_least_50, share_at_least_50,
        mean_normalised, median_normalised, interquartile_mean, intervals (name -> [low, high]) and
        threshold_curve; without such a task, the statistics are None. `metrics`: every other
        metric's title, is_share, num_tasks, value and interval, over the tasks that have a value.
        by_suite: the same for each suite with references.

    Raises:
        DataError: When a metric fails.
    """
    summary = summarise_group(tasks, seed)
    suites = sorted({task.split("/", 1)[0] for task, each in tasks.items() if _is_scored(each)})
    summary["by_suite"] = {
        suite: summarise_group(
            {task: each for task, each in tasks.items() if task.split("/", 1)[0] == suite}, seed
        )
        for suite in suites
    }
    return summary


def summarise_group(tasks: Mapping[str, TaskEpisodes], seed: int = 0) -> dict[str, Any]:
    """As `summarise`, without `by_suite`."""
    scored = sorted(task for task, each in tasks.items() if _is_scored(each))
    means = np.array([tasks[task].mean_score for task in scored], dtype=np.float64)
    summary: dict[str, Any] = {
        "num_tasks": len(scored),
        "num_at_least_50": int((means >= 0.5).sum()),
    }
    intervals: dict[str, list[float] | None] = {}
    others = {}
    found = _over_tasks(tasks, [*scored, *sorted(tasks.keys() - set(scored))], seed)
    for name, metric in all_metrics().items():
        entry = found.get(name)
        if metric.is_field:
            summary[name] = None if entry is None else entry["value"]
            intervals[name] = None if entry is None else entry["interval"]
        elif entry is not None:
            others[name] = {"title": metric.title, "is_share": metric.is_share, **entry}
    curve = threshold_curve(means)
    return summary | {"intervals": intervals, "threshold_curve": curve, "metrics": others}


def measured(name: str, metric: Metric, episodes: TaskEpisodes, task: str) -> np.ndarray | None:
    """A metric of a task's episodes (..., E), float64 (...,); None where it has none.

    Raises:
        DataError: Naming the metric, when it raises, or returns another shape or no number.
    """
    try:
        value = metric.of_task(episodes)
    except Exception as error:  # a metric may be anybody's
        raise DataError(
            f"metric {name} of {task}: {type(error).__name__}: {error}; mend it and run the same "
            "command again: the episodes that were played are kept"
        ) from error
    if value is None:
        return None
    value = np.asarray(value, dtype=np.float64)
    shape = episodes.returns.shape[:-1]
    if value.shape != shape:
        raise DataError(
            f"metric {name} of {task}: got shape {value.shape} from episodes of shape "
            f"{episodes.returns.shape}, expected {shape}; reduce the last axis (axis=-1)"
        )
    if not shape and not np.isfinite(value):
        raise DataError(
            f"metric {name} of {task}: got {value}, expected a finite number, or None where it "
            "has no value"
        )
    return value


@dataclass(frozen=True)
class DrawnValue:
    """A metric of one task.

    Args:
        value: Of its episodes.
        resamples: Of its episodes drawn again, float64 (R,).
    """

    value: float
    resamples: np.ndarray


def drawn_values(task: str, episodes: TaskEpisodes, picks: np.ndarray) -> dict[str, DrawnValue]:
    """The metrics that a task has, by name.

    Args:
        task: Named in errors.
        episodes: Of the task, (E,).
        picks: Episodes drawn again, int64 (R, E).

    Raises:
        DataError: When a metric fails.
    """
    resampled = episodes.take(picks)
    found = {}
    for name, metric in all_metrics().items():
        value = measured(name, metric, episodes, task)
        resamples = None if value is None else measured(name, metric, resampled, task)
        if value is not None and resamples is not None:
            found[name] = DrawnValue(float(value), resamples)
    return found


def value_over_tasks(name: str, metric: Metric, values: Sequence[DrawnValue]) -> float:
    """A metric over tasks; raises DataError when it fails or is not finite."""
    value = float(_reduced(name, metric, np.array([each.value for each in values])))
    if not np.isfinite(value):
        raise DataError(f"metric {name} over tasks: got {value}, expected a finite number")
    return value


def resamples_over_tasks(name: str, metric: Metric, values: Sequence[DrawnValue]) -> np.ndarray:
    """Resamples of a metric over tasks, float64 (R,); raises DataError when it fails."""
    return _reduced(name, metric, np.stack([each.resamples for each in values], axis=1))


def interval_of(drawn: np.ndarray) -> list[float] | None:
    """95 % interval of the finite ones of resamples (R,); None without any."""
    finite = drawn[np.isfinite(drawn)]
    return percentile_interval(finite) if len(finite) else None


def _is_scored(episodes: TaskEpisodes) -> bool:
    return episodes.mean_score is not None


def _reduced(name: str, metric: Metric, values: np.ndarray) -> np.ndarray:
    """A metric over tasks, (..., num_tasks) -> (...,)."""
    try:
        value = np.asarray(metric.over_tasks(values), dtype=np.float64)
    except Exception as error:  # a metric may be anybody's
        raise DataError(f"metric {name} over tasks: {type(error).__name__}: {error}") from error
    if value.shape != values.shape[:-1]:
        raise DataError(
            f"metric {name} over tasks: got shape {value.shape} from values of shape "
            f"{values.shape}, expected {values.shape[:-1]}; reduce the last axis (axis=-1)"
        )
    return value


def _over_tasks(
    tasks: Mapping[str, TaskEpisodes], order: Sequence[str], seed: int
) -> dict[str, dict[str, Any]]:
    """Number of tasks, value and interval of every metric that some task has a value of."""
    rng = np.random.default_rng(seed)
    drawn = []
    for task in order:
        count = tasks[task].num_episodes
        picks = rng.integers(0, count, size=(NUM_RESAMPLES, count))
        drawn.append(drawn_values(task, tasks[task], picks))
    found = {}
    for name, metric in all_metrics().items():
        values = [each[name] for each in drawn if name in each]
        if values:
            found[name] = {
                "num_tasks": len(values),
                "value": value_over_tasks(name, metric, values),
                "interval": interval_of(resamples_over_tasks(name, metric, values)),
            }
    return found
