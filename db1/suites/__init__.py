"""Suites of tasks: one file each. Importing this package registers all of them, and plug-ins."""

from __future__ import annotations

import importlib
import pkgutil

from db1.errors import ConfigError
from db1.registration import register_tasks
from db1.suites.base import SUITES, Suite, TaskEnv
from db1.suites.plugins import load_installed_plugins

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["SUITES", "Suite", "TaskEnv", "make_env", "parse_task_id", "task_ids"]


def parse_task_id(task_id: str) -> tuple[Suite, str]:
    """Splits `metaworld/reach-v3` in the suite and the task's name in it.

    Raises:
        ConfigError: For a text without a slash, an unknown suite or task; names near matches.
    """
    suite_name, slash, task_name = task_id.partition("/")
    if not slash:
        raise ConfigError(
            f"task id {task_id!r}, expected suite/task with a suite out of {sorted(SUITES)}"
        )
    suite = SUITES[suite_name]
    suite.check_task(task_name)
    return suite, task_name


def make_env(task_id: str) -> TaskEnv:
    """Builds the environment of a task; see `Suite.make_env`."""
    suite, task_name = parse_task_id(task_id)
    return suite.make_env(task_name)


def task_ids(suite: str | None = None) -> list[str]:
    """Returns the ids of all tasks, or of one suite's, in the suite's own order."""
    names = sorted(SUITES) if suite is None else [suite]
    return [f"{name}/{task}" for name in names for task in SUITES[name].task_names()]


def make_registered(task_id: str, render_mode: str | None = None) -> TaskEnv:
    """Builds a task for `gymnasium.make("db1/<suite>/<task>")`.

    Args:
        task_id: `suite/task`.
        render_mode: `rgb_array` or None.
    """
    env = make_env(task_id)
    env.render_mode = render_mode
    return env


register_tasks(task_ids())
SUITES.before_use(load_installed_plugins)
