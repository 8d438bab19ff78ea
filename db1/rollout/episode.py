"""An episode: who acts in it, its states as an observer sees them, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from db1.suites import TaskEnv


class RolloutPolicy(Protocol):
    """Acts in a wave of episodes of one task; row i of a wave is episode i of `start`."""

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """Begins a wave; every environment was just reset with its seed.

        Environments that live in other processes are not among `envs`.
        """
        ...

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """One action for each of the rows (N,) still running, ascending; they only get fewer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One state of an episode, how it was reached and what is done in it.

    Args:
        row: Number of the episode among those that run together.
        step: Steps done so far.
        observation: What the policy sees, by key.
        action: What it does now; None when the episode is over.
        reward: Of the step before; 0 at first.
        total_reward: Return so far.
        success: True when any step succeeded; None where the task does not tell.
    """

    row: int
    step: int
    observation: Mapping[str, Any]
    action: Any
    reward: float
    total_reward: float
    success: bool | None

    @property
    def is_last(self) -> bool:
        """True when the episode is over."""
        return self.action is None


Observer = Callable[[TaskEnv, Transition], None]
"""Called with the environment in a state, before the action; must not change it."""


class StopWatching(Exception):
    """Raised by an `Observer` to end all episodes at once."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """Outcome of one episode.

    Args:
        seed: Seed of the environment.
        total_reward: Undiscounted return.
        length: Steps.
        success: True when any step succeeded; None where the task does not tell.
        terminated: True when the task ended it, not a limit of time.
    """

    seed: int
    total_reward: float
    length: int
    success: bool | None
    terminated: bool
