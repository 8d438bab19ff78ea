"""Episodes of one task, several at a time in lockstep, with seeds that no training data has.

wave 1   seeds 0 .. n - 1    one environment each; finished episodes drop out of the batch
wave 2   seeds n .. 2n - 1   the same environments, reset
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.rollout.environments import EnvironmentBatch, LocalEnvironments
from db1.rollout.policies import RolloutPolicy
from db1.rollout.workers import Played
from db1.suites.seeds import check_seed

Progress = Callable[[int, int], None]
"""Called with (finished episodes, all episodes) whenever an episode ends."""

EpisodeResult = Played


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
            report = _shifted(progress, first, seeds)
            results += _run_wave(environments, policy, wave, report, after_step, max_steps)
    finally:
        environments.close()
    return results


def _shifted(progress: Progress | None, first: int, seeds: Sequence[int]) -> Callable[[int], None]:
    """A call of `progress` that knows the episodes of earlier waves."""
    return lambda finished: progress(first + finished, len(seeds)) if progress else None


class _Tally:
    """Sums of one running episode."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.total_reward = 0.0
        self.length = 0
        self.success: bool | None = None

    def add(self, reward: float, info: dict[str, Any]) -> None:
        """Takes in one step."""
        self.total_reward += reward
        self.length += 1
        if "success" in info:
            self.success = bool(self.success or info["success"])

    def result(self) -> EpisodeResult:
        """The finished episode."""
        return EpisodeResult(
            seed=self.seed,
            total_reward=self.total_reward,
            length=self.length,
            success=self.success,
        )


def _run_wave(
    environments: EnvironmentBatch,
    policy: RolloutPolicy,
    seeds: Sequence[int],
    progress: Callable[[int], None],
    after_step: Callable[[], None] | None,
    max_steps: int | None,
) -> list[EpisodeResult]:
    """Runs one episode in each environment until all are over."""
    tallies = [_Tally(seed) for seed in seeds]
    observations = environments.reset(seeds)
    policy.start(getattr(environments, "envs", ()), seeds)
    running = np.arange(len(seeds))
    while len(running):
        actions = policy.act([observations[row] for row in running], running)
        steps = environments.step(running, actions)
        over = np.zeros(len(running), dtype=bool)
        for i, (row, step) in enumerate(zip(running, steps, strict=True)):
            observations[row], reward, terminated, truncated, info = step
            tallies[row].add(reward, info)
            over[i] = terminated or truncated or tallies[row].length == max_steps
        running = running[~over]
        if over.any():
            progress(len(seeds) - len(running))
        if after_step is not None:
            after_step()
    return [tally.result() for tally in tallies]
