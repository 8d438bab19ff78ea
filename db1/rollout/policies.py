"""Policies of a rollout: the model, the task's expert, the nearest demonstration, or chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from db1.errors import ConfigError
from db1.experts import Expert, make_expert
from db1.experts.uniform import UniformExpert
from db1.rollout.episode import RolloutPolicy
from db1.rollout.retrieval import RetrievalPolicy
from db1.suites import TaskEnv
from db1.suites.seeds import EVALUATION

if TYPE_CHECKING:
    from db1.inference.agent import Agent

POLICIES = ("model", "random", "expert", "retrieval")


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
        return ExpertPolicy(lambda: UniformExpert(seed))
    if name == "expert":
        return ExpertPolicy(lambda: make_expert(task_id))
    if name == "retrieval" and folder is not None:
        return RetrievalPolicy(task_id, Path(folder), episodes)
    raise ConfigError(f"policy {name!r}: expected one of {POLICIES[1:]}")


class ExpertPolicy:
    """An expert of `db1.experts`, one for each row.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], Expert]) -> None:
        self._make = make
        self._envs: Sequence[TaskEnv] = ()
        self._experts: list[Expert] = []

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        self._envs = envs
        while len(self._experts) < len(envs):
            self._experts.append(self._make())
        for expert, env, seed in zip(self._experts, envs, seeds, strict=False):
            expert.reset(env, seed)

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`; rows (N,)."""
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
        self.act = agent.act
        """See `RolloutPolicy`."""

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        rows = np.arange(self._agent.batch_size) < len(seeds)
        prompt_of = self._agent.prompt_of
        numbers = [prompt_of.get(seed, seed - EVALUATION.start) for seed in seeds]
        self._agent.reset(rows, seeds=seeds, prompt_numbers=numbers)
