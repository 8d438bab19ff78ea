"""Experts by task, and demonstrations from them. Importing this package registers all experts."""

from __future__ import annotations

from db1.errors import ConfigError
from db1.experts import (  # noqa: F401  (each registers its experts)
    atari,
    babyai,
    classic_control,
    dmc,
    metaworld,
    minigrid,
    miniworld,
    planner,
    planner_lqr,
    robotics_fetch,
    robotics_maze,
    sokoban,
    tsp,
    vizdoom,
)
from db1.experts.base import EXPERTS, Expert
from db1.suites import parse_task_id

__all__ = ["EXPERTS", "Expert", "make_expert"]


def make_expert(task_id: str) -> Expert:
    """Builds the expert of a task.

    Raises:
        ConfigError: When the task is unknown or has no expert.
    """
    suite, task_name = parse_task_id(task_id)
    name = suite.expert_name(task_name)
    if name is None and suite.is_open:
        raise ConfigError(
            f"{task_id} has no expert of db1; give one of your own (--expert module:function), or "
            "import demonstrations"
        )
    if name is None:
        known = [task for task in suite.task_names() if suite.expert_name(task)]
        raise ConfigError(
            f"{task_id} has no expert; {len(known)} of {len(suite.task_names())} tasks of "
            f"{suite.name} have one (`db1 tasks --suite {suite.name}`), or import demonstrations"
        )
    return EXPERTS[name](task_name)
