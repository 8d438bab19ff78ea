"""One episode of an expert, with or without noise on what is executed.

With noise (DART, Laskey et al. 2017) the episode visits states beside the expert's own path, but
the recorded action is always the expert's answer to the state it is in.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.experts.base import Expert
from db1.suites.base import Observation, TaskEnv
from db1.tokens.spec import Episode, StepSpec

NOISE_CORRELATION = 0.9
"""Correlation of a continuous action's noise from one step to the next."""


class UniformExpert:
    """Draws every action uniformly from the allowed ones: the random reference."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Seeds the draws of the episode."""
        self._rng = episode_generator(env.task_id, seed)

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """Returns a uniformly drawn allowed action."""
        return env.sample_action(self._rng, observation)


def episode_generator(task_id: str, seed: int) -> np.random.Generator:
    """Returns the random numbers of one episode: a function of the task and the seed only."""
    return np.random.default_rng((zlib.crc32(task_id.encode()), seed))


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
    disturbance = _Disturbance(env, action_noise, episode_generator(env.task_id, seed))
    observation, info = env.reset(seed=seed)
    expert.reset(env, seed)
    observations, actions, rewards = [], [], []
    success, terminated, truncated = info.get("success"), False, False
    while not (terminated or truncated or len(actions) == max_steps):
        observations.append(observation)
        actions.append(expert.act(env, observation))
        executed = disturbance.execute(actions[-1], observation)
        observation, reward, terminated, truncated, info = env.step(executed)
        rewards.append(reward)
        if "success" in info:
            success = bool(success or info["success"])
    return Episode(
        observations=_columns(env.step_spec, observations),
        actions=np.array(actions, dtype=env.step_spec.action.dtype),
        rewards=np.array(rewards, dtype=np.float32),
        seed=seed,
        terminated=terminated,
        success=success,
    )


class _Disturbance:
    """What is executed in place of the expert's actions in one episode.

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
