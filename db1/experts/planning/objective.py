"""Objectives of the planner: a task's reward over many trajectories at once, and hints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from db1.experts.planning.rollouts import Trajectories
from db1.registry import Registry


class Objective(ABC):
    """One task's reward in NumPy.

    Args:
        task_name: The task in its suite.

    Attributes:
        leaves_out: What of the reward is not computed here: contact forces are not in a rollout.
        fall_cost: What ending an episode by a fall costs beside the rewards it loses.
    """

    leaves_out: str = ""
    fall_cost: float = 0.0

    def __init__(self, task_name: str) -> None:
        self.task_name = task_name

    @abstractmethod
    def reward(self, t: Trajectories) -> np.ndarray:
        """Returns the environment's own reward, (S, T), but for what `leaves_out` names."""

    def hint(self, t: Trajectories) -> np.ndarray:
        """Returns what is added to the reward to lead the planner, (S, T)."""
        return np.zeros(t.ctrl.shape[:2])

    def ended(self, t: Trajectories) -> np.ndarray:
        """Returns bool (S, T): the step ends the episode."""
        return np.zeros(t.ctrl.shape[:2], dtype=bool)

    def score(self, t: Trajectories) -> np.ndarray:
        """Returns what each trajectory is worth, (S,); nothing counts after its end."""
        ended = self.ended(t)
        over = np.logical_or.accumulate(ended, axis=1)
        running = np.concatenate([np.ones_like(over[:, :1]), ~over[:, :-1]], axis=1)
        worth = np.where(running, self.reward(t) + self.hint(t), 0.0).sum(axis=1)
        return worth - self.fall_cost * over[:, -1]


OBJECTIVES: Registry[Callable[[str], Objective]] = Registry("planning objective")
"""Factory by task id or, in modular_rl, by the kind of body; it takes the task's name."""


def squared(values: np.ndarray) -> np.ndarray:
    """Returns the sum of squares over the last axis: (..., N) -> (...,)."""
    return np.square(values).sum(axis=-1)


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns where `values` (...,) lie strictly between the bounds, bool (...,)."""
    return (low < values) & (values < high)
