"""Two evaluations side by side, and one next to what others published.

Differences are B - A in normalised return. Episodes of equal seeds are pairs. A task's p-value
comes from a permutation test over its episodes, corrected for the number of tasks; that of all
tasks from swapping A and B task by task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.metrics.episodes import METRICS, TaskEpisodes
from db1.metrics.scores import normalise, percentile_interval, resampled_means
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
from db1.suites.scores.agents import published_agents
from db1.suites.scores.published import published_of

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


def compare_published(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results next to the figures that other agents' authors published.

    A task counts only where the agent verifiably had it under rules that agree with those here
    (version, horizon, references), and is normalised by the returns that the published figure was
    normalised by. An agent whose tasks or references are not published cannot be compared with. A
    figure over tasks that are not all here stands alone: one over a part of them would mislead.

    Returns:
        Rows of `agent`, `what`, `statistic` and its `title`, `theirs`, `their_interval`, `ours` and
        `our_interval` (None where not all of their tasks are here), `num_tasks` in common,
        `their_num_tasks` and `source`. Figures without a task in common are left out.
    """
    rows = []
    for agent in published_agents().values():
        if agent.get("references") is None:
            continue
        figures = {"all tasks": agent} if "share_at_least_50" in agent else {}
        for what, figure in {**figures, **agent.get("suites", {})}.items():
            suite = None if what == "all tasks" else what
            scores = _common_scores(results["tasks"], agent["references"], suite)
            if scores:
                rows.append(_published_row(agent, what, figure, scores))
    return rows


def _published_row(
    agent: Mapping[str, Any],
    what: str,
    figure: Mapping[str, Any],
    scores: Sequence[np.ndarray],
) -> dict[str, Any]:
    is_all = figure["num_tasks"] == len(scores)
    name = next(n for n in ("share_at_least_50", "interquartile_mean") if n in figure)
    statistic = METRICS[name]()
    rng = np.random.default_rng(0)
    drawn = np.stack([resampled_means(values, rng) for values in scores], axis=1)
    means = np.array([values.mean() for values in scores])
    return {
        "agent": agent["name"],
        "what": what,
        "statistic": name,
        "title": statistic.title,
        "theirs": figure[name],
        "their_interval": figure.get("interval"),
        "ours": float(statistic.over_tasks(means)) if is_all else None,
        "our_interval": percentile_interval(statistic.over_tasks(drawn)) if is_all else None,
        "num_tasks": len(scores),
        "their_num_tasks": figure["num_tasks"],
        "source": agent["source"],
    }


def _common_scores(
    tasks: Mapping[str, Any], references: str, suite: str | None
) -> list[np.ndarray]:
    """Normalised returns of the tasks in common whose rules agree."""
    scores: list[np.ndarray] = []
    for task, entry in sorted(tasks.items()):
        if suite is not None and task.split("/", 1)[0] != suite:
            continue
        found = published_of(task, references)
        if found is None or not found["comparable"]:
            continue
        random, expert = found.get("random"), found.get("expert")
        if None not in (random, expert) and random != expert:
            scores.append(normalise(np.array(entry["returns"]), random, expert))
    return scores
