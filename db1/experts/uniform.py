"""Actions at random: the reference that scores are 0 at, and the policy `random`."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from db1.suites.base import Observation, TaskEnv


class UniformExpert:
    """Draws every action uniformly from the allowed ones.

    Args:
        seed: Of an evaluation's draws, with the episode's seed; None: those of the references,
            which depend on the task and the episode's seed alone.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._rng = np.random.default_rng(0)

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Seeds the draws of the episode."""
        if self._seed is None:
            self._rng = episode_generator(env.task_id, seed)
        else:
            self._rng = np.random.default_rng([self._seed, seed])

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """Returns a uniformly drawn allowed action."""
        return env.sample_action(self._rng, observation)


def episode_generator(task_id: str, seed: int) -> np.random.Generator:
    """Returns the random numbers of one episode: a function of the task and the seed only."""
    return np.random.default_rng((zlib.crc32(task_id.encode()), seed))
