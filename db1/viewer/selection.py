"""Selection of the tasks and episodes that are filmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from db1.errors import ConfigError

ROLES = ("best", "median", "worst")


def choose_tasks(
    results: Mapping[str, Any],
    tasks: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    per_suite: int | None = None,
) -> list[str]:
    """Evaluated tasks: those named, of the suites named, at most `per_suite` of each suite.

    Raises:
        ConfigError: For a task or a suite that was not evaluated.
    """
    known = list(results["tasks"])
    for task in tasks or ():
        if task not in known:
            raise ConfigError(f"{task}: not among the {len(known)} evaluated tasks")
    chosen = list(dict.fromkeys(tasks)) if tasks else known
    by_suite: dict[str, list[str]] = {}
    for task in chosen:
        by_suite.setdefault(task.split("/")[0], []).append(task)
    for suite in suites or ():
        if suite not in by_suite:
            raise ConfigError(f"suite {suite!r}: not evaluated, expected one of {sorted(by_suite)}")
    groups = [group for suite, group in by_suite.items() if not suites or suite in suites]
    if per_suite is not None:
        groups = [_spread(group, results, per_suite) for group in groups]
    return [task for group in groups for task in group]


def _spread(tasks: Sequence[str], results: Mapping[str, Any], limit: int) -> list[str]:
    """`limit` tasks from the best to the worst score, evenly spread."""

    def score(task: str) -> float:
        value = results["tasks"][task]["normalised"]
        return np.inf if value is None else -value

    ordered = sorted(tasks, key=score)
    picks = np.unique(np.linspace(0, len(ordered) - 1, min(limit, len(ordered))).round())
    return [ordered[int(i)] for i in picks]


def pick_episodes(returns: Sequence[float]) -> dict[str, int]:
    """Role -> number of the episode: best, (lower) median and worst, each another one."""
    order = sorted(range(len(returns)), key=lambda i: -returns[i])
    picks = {"best": order[0]}
    if len(order) > 2:
        picks["median"] = order[len(order) // 2]
    if len(order) > 1:
        picks["worst"] = order[-1]
    return picks
