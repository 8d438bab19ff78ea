"""Experts: controllers, planners and solvers that demonstrate a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from db1.registry import Registry
from db1.suites.base import Observation, TaskEnv


class Expert(Protocol):
    """Acts in one task. It may look at `env.simulator`; the best ones need the observation only.

    `env.last_action` tells what was executed last, which differs from the expert's own choice
    while demonstrations are collected under noise.
    """

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Prepares for the episode that `env.reset(seed=seed)` has just started."""

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """Returns an allowed action: an int, or float32 of the action's shape in [-1, 1].

        Raises:
            DataError: When the expert does not know how to go on from here.
        """


EXPERTS: Registry[Callable[[str], Expert]] = Registry("expert")
"""Factory by expert name; it takes the task's name in its suite."""
