"""Tasks that a model learned and tasks that it did not: groups of an evaluation's tasks.

seen                 learned
unseen               not learned
unseen: ml45-test    of these, the tasks of a named split (`db1.splits`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db1.metrics.episodes import TaskEpisodes
from db1.metrics.summary import summarise_group
from db1.splits import SPLITS

SEEN, UNSEEN = "seen", "unseen"


def seen_groups(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """The tasks of results.json by group.

    Returns:
        Task ids by name; empty groups are left out. Nothing where the results do not say what was
        learned (those of other policies, of released models, and older ones), or where all of it
        was.
    """
    learned = results.get("provenance", {}).get("learned")
    unseen = [task for task in results["tasks"] if learned is not None and task not in learned]
    if not unseen:
        return {}
    seen = [task for task in results["tasks"] if task in learned]
    groups = {SEEN: seen, UNSEEN: unseen}
    for name, members in SPLITS.items():
        groups[f"{UNSEEN}: {name}"] = [task for task in unseen if task in members]
    return {name: tasks for name, tasks in groups.items() if tasks}


def summarise_seen(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The summary of each group over its tasks with a score; groups without one are left out."""
    summaries = {}
    for name, tasks in seen_groups(results).items():
        episodes = {task: TaskEpisodes.of_entry(results["tasks"][task]) for task in tasks}
        summary = summarise_group(episodes)
        if summary["num_tasks"]:
            summaries[name] = summary
    return summaries
