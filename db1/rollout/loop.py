"""The loop of all episodes: of evaluations, films, `db1 play`, references and demonstrations.

`run_episodes` runs one episode a row, all in lockstep; rows that are over drop out. `rollout` runs
any number of evaluation seeds with it, in waves:

    wave 1   seeds 0 .. n - 1    one environment each
    wave 2   seeds n .. 2n - 1   the same environments, reset
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.rollout.episode import EpisodeResult, Observer, RolloutPolicy, Transition
from db1.rollout.local import EnvironmentBatch, LocalEnvironments
from db1.suites.base import Observation, StepResult
from db1.suites.seeds import check_seed

Progress = Callable[[int, int], None]
"""Called with (finished episodes, all episodes) whenever an episode ends."""


def rollout(
    task_id: str,
    policy: RolloutPolicy,
    seeds: Sequence[int],
    progress: Progress | None = None,
    *,
    num_environments: int = 16,
    max_steps: int | None = None,
    environments: EnvironmentBatch | None = None,
    after_step: Callable[[], None] | None = None,
) -> list[EpisodeResult]:
    """Runs one episode for each seed.

    Args:
        task_id: `suite/task`.
        policy: Who acts.
        seeds: Evaluation seeds (`suites/seeds.py`), all different.
        progress: Called whenever an episode ends.
        num_environments: The most environments at once; results do not depend on it.
        max_steps: Episodes are cut off after these steps; None: they end as the task says.
        environments: Where they run; None: in this process. Closed at the end.
        after_step: Called after every step of all running environments.

    Returns:
        Results in the order of `seeds`.

    Raises:
        ConfigError: For repeated seeds or no environment.
        DataError: For a seed that is no evaluation seed, or an environment that fails.
    """
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"{task_id}: {len(seeds) - len(set(seeds))} repeated seeds")
    if num_environments < 1:
        raise ConfigError(f"num_environments: got {num_environments}, expected at least 1")
    for seed in seeds:
        check_seed("evaluation", seed)
    environments = environments or LocalEnvironments(task_id)
    results: list[EpisodeResult] = []
    try:
        for first in range(0, len(seeds), num_environments):
            wave = list(seeds[first : first + num_environments])
            results += run_episodes(
                environments,
                policy,
                wave,
                max_steps=max_steps,
                finished=_shifted(progress, first, seeds),
                after_step=after_step,
            )
    finally:
        environments.close()
    return results


def run_episodes(
    environments: EnvironmentBatch,
    policy: RolloutPolicy,
    seeds: Sequence[int],
    *,
    max_steps: int | None = None,
    observe: Observer | None = None,
    finished: Callable[[int], None] | None = None,
    after_step: Callable[[], None] | None = None,
) -> list[EpisodeResult]:
    """Runs one episode in each environment until all are over.

    Args:
        environments: At least one for each seed; they stay open.
        policy: Who acts.
        seeds: One an episode.
        max_steps: Episodes are cut off after these steps; None: they end as the task says.
        observe: Called in every state before its action is executed, and in the last one;
            environments of this process only.
        finished: Called with the number of finished episodes whenever one ends.
        after_step: Called after every step of all running environments.

    Returns:
        Results in the order of `seeds`.
    """
    envs = getattr(environments, "envs", ())
    observations = environments.reset(seeds)
    episodes = [_Running(row, seed, now) for row, (seed, now) in _numbered(seeds, observations)]
    policy.start(envs, seeds)
    running = np.arange(len(seeds))
    while len(running):
        actions = policy.act([episodes[row].observation for row in running], running)
        if observe is not None:
            for row, action in zip(running, actions, strict=True):
                observe(envs[row], episodes[row].transition(action))
        steps = environments.step(running, actions)
        for row, step in zip(running, steps, strict=True):
            episodes[row].add(step, max_steps)
            if observe is not None and episodes[row].is_over:
                observe(envs[row], episodes[row].transition(None))
        still = running[[not episodes[row].is_over for row in running]]
        if finished is not None and len(still) < len(running):
            finished(len(seeds) - len(still))
        running = still
        if after_step is not None:
            after_step()
    return [episode.result() for episode in episodes]


def watch(
    task_id: str, policy: RolloutPolicy, seeds: Sequence[int], observe: Observer
) -> list[EpisodeResult]:
    """Runs one episode a seed in this process, all in lockstep as in an evaluation.

    Args:
        task_id: `suite/task`.
        policy: Who acts.
        seeds: One an episode.
        observe: Called in every state.

    Returns:
        Results in the order of `seeds`.
    """
    environments = LocalEnvironments(task_id)
    try:
        return run_episodes(environments, policy, seeds, observe=observe)
    finally:
        environments.close()


def _numbered(
    seeds: Sequence[int], observations: Sequence[Observation]
) -> Iterable[tuple[int, tuple[int, Observation]]]:
    return enumerate(zip(seeds, observations, strict=True))


class _Running:
    """One running episode and its sums."""

    def __init__(self, row: int, seed: int, observation: Observation) -> None:
        self.row, self.seed, self.observation = row, seed, observation
        self.is_over = self.terminated = False
        self._length, self._reward, self._total = 0, 0.0, 0.0
        self._success: bool | None = None

    def add(self, step: StepResult, max_steps: int | None) -> None:
        """Takes in one step."""
        self.observation, reward, self.terminated, truncated, info = step
        self._reward = reward
        self._total += reward
        self._length += 1
        if "success" in info:
            self._success = bool(self._success or info["success"])
        self.is_over = bool(self.terminated or truncated or self._length == max_steps)

    def transition(self, action: Any) -> Transition:
        """The present state and what is done in it."""
        return Transition(
            row=self.row,
            step=self._length,
            observation=self.observation,
            action=action,
            reward=self._reward,
            total_reward=self._total,
            success=self._success,
        )

    def result(self) -> EpisodeResult:
        """The finished episode."""
        return EpisodeResult(
            seed=self.seed,
            total_reward=self._total,
            length=self._length,
            success=self._success,
            terminated=bool(self.terminated),
        )


def _shifted(progress: Progress | None, first: int, seeds: Sequence[int]) -> Callable[[int], None]:
    """A call of `progress` that knows the episodes of earlier waves."""
    return lambda finished: progress(first + finished, len(seeds)) if progress else None
