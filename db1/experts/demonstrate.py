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
        action_noise: Standard deviation of Gaussian noise added to a continuous action, or the
            probability that a uniformly drawn allowed action replaces a discrete one.
        max_steps: Most steps of the episode; None: as many as the environment allows. Tasks whose
            interesting part comes first are learned from more, shorter demonstrations.

    Returns:
        The episode; its actions are the expert's. `success` is True when any step succeeded, None
        where the task does not tell.
    """
    check_noise(action_noise, env.step_spec)
    rng = episode_generator(env.task_id, seed)
    observation, info = env.reset(seed=seed)
    expert.reset(env, seed)
    observations, actions, rewards = [], [], []
    success, terminated, truncated = info.get("success"), False, False
    while not (terminated or truncated or len(actions) == max_steps):
        observations.append(observation)
        actions.append(expert.act(env, observation))
        executed = _disturb(env, actions[-1], observation, action_noise, rng)
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


def _disturb(
    env: TaskEnv,
    action: Any,
    observation: Observation,
    noise: float,
    rng: np.random.Generator,
) -> Any:
    if noise == 0.0:
        return action
    if env.step_spec.action.kind == "discrete":
        return env.sample_action(rng, observation) if rng.random() < noise else action
    disturbed = np.asarray(action) + rng.normal(0.0, noise, size=np.shape(action))
    return np.clip(disturbed, -1.0, 1.0).astype(np.float32)


def _columns(spec: StepSpec, observations: list[Observation]) -> dict[str, np.ndarray]:
    return {
        key: np.array([o[key] for o in observations], dtype=field.dtype)
        for key, field in spec.observation.items()
    }
