"""Who acts in a rollout: the model, the task's expert, the nearest demonstration, or chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from db1.errors import ConfigError
from db1.experts import make_expert
from db1.rollout.retrieval import RetrievalPolicy
from db1.suites import TaskEnv
from db1.suites.seeds import EVALUATION

if TYPE_CHECKING:
    from db1.inference.agent import Agent

POLICIES = ("model", "random", "expert", "retrieval")


class RolloutPolicy(Protocol):
    """Acts in a wave of episodes of one task; row i of a wave is episode i of `start`."""

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """Begins a wave; every environment was just reset with its seed.

        Environments that live in other processes are not among `envs`.
        """
        ...

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """One action for each of the rows still running, ascending; they only get fewer."""
        ...


def make_model_free_policy(
    task_id: str,
    *,
    name: str,
    seed: int = 0,
    folder: str | None = None,
    episodes: Sequence[int] | None = None,
) -> RolloutPolicy:
    """A policy that needs no model.

    Args:
        task_id: `suite/task`.
        name: `random`, `expert` or `retrieval`.
        seed: Of the random policy.
        folder: The task's demonstration store, for `retrieval`.
        episodes: Numbers of the stored episodes that it knows; None: all.

    Raises:
        ConfigError: For another name, or a task without expert.
        DataError: When the demonstrations cannot be used.
    """
    if name == "random":
        return RandomPolicy(seed)
    if name == "expert":
        return ExpertPolicy(task_id)
    if name == "retrieval" and folder is not None:
        return RetrievalPolicy(task_id, Path(folder), episodes)
    raise ConfigError(f"policy {name!r}: expected one of {POLICIES[1:]}")


class RandomPolicy:
    """Uniform over the allowed actions; an episode's draws depend on its seed alone.

    Args:
        seed: Seed of the draws, with the episode's seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._envs: Sequence[TaskEnv] = ()
        self._generators: list[np.random.Generator] = []

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        self._envs = envs
        self._generators = [np.random.default_rng([self._seed, seed]) for seed in seeds]

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`."""
        return [
            self._envs[row].sample_action(self._generators[row], observation)
            for row, observation in zip(rows, observations, strict=True)
        ]


class ExpertPolicy:
    """The task's expert of `db1.experts`, one for each row.

    Args:
        task_id: `suite/task`.
    """

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id
        self._envs: Sequence[TaskEnv] = ()
        self._experts: list[Any] = []

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        self._envs = envs
        while len(self._experts) < len(envs):
            self._experts.append(make_expert(self._task_id))
        for expert, env, seed in zip(self._experts, envs, seeds, strict=False):
            expert.reset(env, seed)

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`."""
        return [
            self._experts[row].act(self._envs[row], observation)
            for row, observation in zip(rows, observations, strict=True)
        ]


class ModelPolicy:
    """The trained model; the episode's seed picks its prompt, so waves change nothing.

    Args:
        agent: Its batch size must cover the largest wave.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        rows = np.arange(self._agent.batch_size) < len(seeds)
        prompt_of = self._agent.prompt_of
        numbers = [prompt_of.get(seed, seed - EVALUATION.start) for seed in seeds]
        self._agent.reset(rows, seeds=seeds, prompt_numbers=numbers)

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`."""
        return self._agent.act(observations, rows)
