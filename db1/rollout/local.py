"""A batch of environments of one task, and the one that lives in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from db1.suites import TaskEnv, make_env
from db1.suites.base import Observation, StepResult


class EnvironmentBatch(Protocol):
    """Environments 0, 1, ... of one task, stepped together."""

    def reset(self, seeds: Sequence[int]) -> list[Observation]:
        """Starts one episode a seed, in the first `len(seeds)` environments."""
        ...

    def step(self, rows: Sequence[int], actions: Sequence[Any]) -> list[StepResult]:
        """Executes one action in each of the environments `rows`; results in their order."""
        ...

    def close(self) -> None:
        """Ends all environments."""
        ...


class OpenEnvironments:
    """Environments of this process that somebody else opened and closes.

    Args:
        envs: One a row.

    Attributes:
        envs: As given; policies that look at the simulator take them from here.
    """

    def __init__(self, envs: Sequence[TaskEnv]) -> None:
        self.envs = list(envs)

    def reset(self, seeds: Sequence[int]) -> list[Observation]:
        """See `EnvironmentBatch`."""
        return [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=False)]

    def step(self, rows: Sequence[int], actions: Sequence[Any]) -> list[StepResult]:
        """See `EnvironmentBatch`."""
        return [self.envs[row].step(action) for row, action in zip(rows, actions, strict=True)]

    def close(self) -> None:
        """Leaves them open."""


class LocalEnvironments(OpenEnvironments):
    """Environments in this process, made when they are needed first.

    Args:
        task_id: `suite/task`.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__([])
        self._task_id = task_id

    def reset(self, seeds: Sequence[int]) -> list[Observation]:
        """See `EnvironmentBatch`."""
        while len(self.envs) < len(seeds):
            self.envs.append(make_env(self._task_id))
        return super().reset(seeds)

    def close(self) -> None:
        """See `EnvironmentBatch`."""
        for env in self.envs:
            env.close()
        self.envs.clear()
