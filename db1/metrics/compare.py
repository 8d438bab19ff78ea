"""Two evaluations side by side.

Differences are B - A in normalised return. Episodes of equal seeds are pairs. A task's p-value
comes from a permutation test over its episodes, corrected for the number of tasks; that of all
tasks from swapping A and B task by task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.metrics.episodes import TaskEpisodes
from db1.metrics.seen import seen_groups
from db1.metrics.significance import (
    difference_interval,
    holm,
    paired_p_value,
    resampled_indices,
    two_sample_p_value,
)
from db1.metrics.summary import (
    DrawnValue,
    all_metrics,
    drawn_values,
    interval_of,
    resamples_over_tasks,
    value_over_tasks,
)

LEVEL = 0.05
_Values = dict[str, DrawnValue]
"""Metrics of a task by name."""


def compare_results(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Compares two results (`read_results`).

    Returns:
        `tasks` (by id: episodes, means, scores, `difference` and its `interval`, `p_value`,
        `p_corrected`, `better`: "a", "b" or None), `overall`, `by_suite` and `by_seen` (for each
        metric title, is_share, num_tasks, a, b, difference and interval; `p_value` of the mean
        score), `better` (counts),
        `only_a`, `only_b`, `not_comparable` (task -> why). What B's model learned decides which
        tasks are `seen`, or A's where B does not say.

    Raises:
        DataError: When there is no task to compare.
    """
    shared, reasons = _shared_tasks(a["tasks"], b["tasks"])
    if not shared:
        why = f": {next(iter(reasons.values()))}" if reasons else ""
        raise DataError(f"compare: the two results have no task in common{why}")
    pairs = {task: _scores(a["tasks"][task], b["tasks"][task]) for task in shared}
    tasks = {task: _task(a["tasks"][task], b["tasks"][task], pair) for task, pair in pairs.items()}
    corrected = holm({task: row["p_value"] for task, row in tasks.items()})
    for task, row in tasks.items():
        row["p_corrected"] = corrected[task]
        sure = corrected[task] < LEVEL
        row["better"] = ("b" if row["difference"] > 0 else "a") if sure else None
    suites = sorted({task.split("/", 1)[0] for task in shared})
    by_suite = {s: {t: pairs[t] for t in shared if t.split("/", 1)[0] == s} for s in suites}
    groups = seen_groups(b) or seen_groups(a)
    by_seen = {name: {t: pairs[t] for t in group if t in pairs} for name, group in groups.items()}
    counts = [row["better"] for row in tasks.values()]
    return {
        "overall": _overall(pairs),
        "by_suite": {suite: _overall(group) for suite, group in by_suite.items()},
        "by_seen": {name: _overall(group) for name, group in by_seen.items() if group},
        "tasks": tasks,
        "better": {"a": counts.count("a"), "b": counts.count("b"), "neither": counts.count(None)},
        "only_a": sorted(set(a["tasks"]) - set(b["tasks"])),
        "only_b": sorted(set(b["tasks"]) - set(a["tasks"])),
        "not_comparable": reasons,
    }


def _shared_tasks(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Tasks that can be compared, and why others cannot."""
    shared, reasons = [], {}
    for task in sorted(set(a) & set(b)):
        if a[task]["reference"] is None or b[task]["reference"] is None:
            reasons[task] = f"{task} has no reference returns"
        elif any(a[task][key] != b[task][key] for key in ("random", "expert")):
            reasons[task] = f"{task} was normalised by other reference returns"
        else:
            shared.append(task)
    return shared, reasons


class _Pair:
    """A task's episodes in both evaluations, and their scores (E,), in the order of the seeds."""

    def __init__(self, a: TaskEpisodes, b: TaskEpisodes, paired: bool) -> None:
        assert a.scores is not None and b.scores is not None
        self.episodes, self.paired = (a, b), paired
        self.a, self.b = a.scores, b.scores

    def drawn_values(self, task: str, rng: np.random.Generator) -> tuple[_Values, _Values]:
        """Metrics of both, whose episodes of equal seeds are drawn together."""
        picks = resampled_indices(len(self.a), len(self.b), self.paired, rng)
        first, second = (
            drawn_values(task, episodes, drawn)
            for episodes, drawn in zip(self.episodes, picks, strict=True)
        )
        return first, second


def _scores(a: Mapping[str, Any], b: Mapping[str, Any]) -> _Pair:
    first, second = (TaskEpisodes.of_entry(entry) for entry in (a, b))
    return _Pair(first, second, paired=a["seeds"] == b["seeds"])


def _task(a: Mapping[str, Any], b: Mapping[str, Any], pair: _Pair) -> dict[str, Any]:
    test = paired_p_value(pair.b - pair.a) if pair.paired else two_sample_p_value(pair.a, pair.b)
    return {
        "episodes": [len(pair.a), len(pair.b)],
        "paired": pair.paired,
        "means": [float(np.mean(entry["returns"])) for entry in (a, b)],
        "normalised": [float(pair.a.mean()), float(pair.b.mean())],
        "difference": float(pair.b.mean() - pair.a.mean()),
        "interval": difference_interval(pair.a, pair.b, pair.paired),
        "p_value": test,
    }


def _overall(pairs: Mapping[str, _Pair], seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    drawn = [pair.drawn_values(task, rng) for task, pair in pairs.items()]
    statistics = {}
    for name, metric in all_metrics().items():
        both = [[each[name] for each in task] for task in drawn if all(name in e for e in task)]
        if not both:
            continue
        first, second = zip(*both, strict=True)
        a, b = (value_over_tasks(name, metric, values) for values in (first, second))
        drawn_a, drawn_b = (resamples_over_tasks(name, metric, v) for v in (first, second))
        statistics[name] = {
            "title": metric.title,
            "is_share": metric.is_share,
            "num_tasks": len(both),
            "a": a,
            "b": b,
            "difference": b - a,
            "interval": interval_of(drawn_b - drawn_a),
        }
    means_a, means_b = (
        np.array([getattr(pair, name).mean() for pair in pairs.values()]) for name in "ab"
    )
    return {
        "num_tasks": len(pairs),
        "p_value": paired_p_value(means_b - means_a),
        "statistics": statistics,
    }
