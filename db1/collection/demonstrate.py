"""One episode of an expert, with or without noise on what is executed.

With noise (DART, Laskey et al. 2017) the episode visits states beside the expert's own path, but
the recorded action is always the expert's answer to the state it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.experts.base import Expert
from db1.experts.uniform import episode_generator
from db1.rollout.episode import Transition
from db1.rollout.local import OpenEnvironments
from db1.rollout.loop import run_episodes
from db1.suites.base import Observation, TaskEnv
from db1.tokens.spec import Episode, StepSpec

NOISE_CORRELATION = 0.9
"""Correlation of a continuous action's noise from one step to the next."""


def check_noise(action_noise: float, spec: StepSpec) -> None:
    """Raises ConfigError for noise that is negative, or no probability for discrete actions."""
    limit = 1.0 if spec.action.kind == "discrete" else np.inf
    if not 0.0 <= action_noise <= limit:
        raise ConfigError(
            f"action_noise: got {action_noise}, expected a number from 0 "
            f"{'to 1 (a probability)' if limit == 1.0 else '(a standard deviation)'}"
        )


def demonstrate(
    env: TaskEnv,
    expert: Expert,
    seed: int,
    *,
    action_noise: float = 0.0,
    max_steps: int | None = None,
) -> Episode:
    """Runs one episode from `env.reset(seed=seed)` to its end or to `max_steps`.

    Args:
        env: The environment.
        expert: Who acts.
        seed: Of the environment, and of the noise.
        action_noise: Standard deviation of correlated noise added to a continuous action, or the
            probability that a uniformly drawn allowed action replaces a discrete one.
        max_steps: Most steps of the episode; None: as many as the environment allows. Tasks whose
            interesting part comes first are learned from more, shorter demonstrations.

    Returns:
        The episode; its actions are the expert's. `success` is True when any step succeeded, None
        where the task does not tell.
    """
    check_noise(action_noise, env.step_spec)
    demonstrator = _Demonstrator(expert, action_noise)
    (result,) = run_episodes(
        OpenEnvironments([env]),
        demonstrator,
        [seed],
        max_steps=max_steps,
        observe=demonstrator.observe,
    )
    return Episode(
        observations=_columns(env.step_spec, demonstrator.observations),
        actions=np.array(demonstrator.actions, dtype=env.step_spec.action.dtype),
        rewards=np.array(demonstrator.rewards, dtype=np.float32),
        seed=seed,
        terminated=result.terminated,
        success=result.success,
    )


class _Demonstrator:
    """Lets an expert act in one episode and keeps what it saw, wanted and got.

    Args:
        expert: Who acts.
        noise: On the executed actions, not on the kept ones.
    """

    def __init__(self, expert: Expert, noise: float) -> None:
        self._expert, self._noise = expert, noise
        self.observations: list[Observation] = []
        self.actions: list[Any] = []
        self.rewards: list[float] = []

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""
        (self._env,), (seed,) = envs, seeds
        generator = episode_generator(self._env.task_id, seed)
        self._disturbance = _Disturbance(self._env, self._noise, generator)
        self._expert.reset(self._env, seed)

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`; returns what is executed."""
        (observation,) = observations
        self.observations.append(observation)
        self.actions.append(self._expert.act(self._env, observation))
        return [self._disturbance.execute(self.actions[-1], observation)]

    def observe(self, env: TaskEnv, transition: Transition) -> None:
        """Keeps the reward of the step before."""
        if transition.step:
            self.rewards.append(transition.reward)


class _Disturbance:
    """Actions executed in place of the expert's in one episode.

    Continuous noise is correlated in time (an Ornstein-Uhlenbeck process, as in Lillicrap et al.
    2016), for white noise averages out before it leads the state anywhere.
    """

    def __init__(self, env: TaskEnv, noise: float, rng: np.random.Generator) -> None:
        self._env = env
        self._noise = noise
        self._rng = rng
        self._offset = rng.normal(0.0, noise, size=env.step_spec.action.shape) if noise else 0.0

    def execute(self, action: Any, observation: Observation) -> Any:
        """Returns the action to execute where the expert wants `action`."""
        if self._noise == 0.0:
            return action
        if self._env.step_spec.action.kind == "discrete":
            replace = self._rng.random() < self._noise
            return self._env.sample_action(self._rng, observation) if replace else action
        executed = np.clip(np.asarray(action) + self._offset, -1.0, 1.0).astype(np.float32)
        fresh = self._rng.normal(0.0, self._noise, size=np.shape(action))
        keep = NOISE_CORRELATION
        self._offset = keep * self._offset + np.sqrt(1.0 - keep**2) * fresh
        return executed


def _columns(spec: StepSpec, observations: list[Observation]) -> dict[str, np.ndarray]:
    return {
        key: np.array([o[key] for o in observations], dtype=field.dtype)
        for key, field in spec.observation.items()
    }
