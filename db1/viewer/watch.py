"""Episodes run once more, step by step, for somebody who looks on.

reset   look(step 0, action 0)   step   look(step 1, action 1)   step   ...   look(step n, None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.rollout.policies import RolloutPolicy
from db1.suites import TaskEnv, make_env


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One state of an episode and what is done in it.

    Args:
        row: Number of the episode among those that run together.
        step: Steps done so far.
        observation: What the policy sees, by key.
        action: What it does now; None when the episode is over.
        reward: Of the step before; 0 at first.
        total_reward: Return so far.
        success: Whether any step succeeded; None where the task does not tell.
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
        """Whether the episode is over."""
        return self.action is None


Look = Callable[[TaskEnv, Moment], None]
"""Called with the environment in the state of the moment; must not change it."""


class StopWatching(Exception):
    """Raised by `Look` when nobody looks any more."""


def watch(task_id: str, policy: RolloutPolicy, seeds: Sequence[int], look: Look) -> list[Moment]:
    """Runs one episode a seed, all in lockstep, as an evaluation does.

    Args:
        task_id: `suite/task`.
        policy: Who acts.
        seeds: One an episode.
        look: Called in every state, before its action is executed.

    Returns:
        The last moment of each episode, in the order of `seeds`.
    """
    envs: list[TaskEnv] = []
    try:
        envs.extend(make_env(task_id) for _ in seeds)
        return _run(envs, policy, seeds, look)
    finally:
        for env in envs:
            env.close()


def _run(
    envs: Sequence[TaskEnv], policy: RolloutPolicy, seeds: Sequence[int], look: Look
) -> list[Moment]:
    observations = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    now = [_first(row, observation) for row, observation in enumerate(observations)]
    policy.start(envs, seeds)
    running = np.arange(len(envs))
    while len(running):
        actions = policy.act([now[row].observation for row in running], running)
        over = np.zeros(len(running), dtype=bool)
        for i, (row, action) in enumerate(zip(running, actions, strict=True)):
            look(envs[row], _acting(now[row], action))
            step = envs[row].step(action)
            now[row] = _next(now[row], step)
            over[i] = step[2] or step[3]
            if over[i]:
                look(envs[row], now[row])
        running = running[~over]
    return now


def _first(row: int, observation: Mapping[str, Any]) -> Moment:
    return Moment(
        row=row, step=0, observation=observation, action=None,
        reward=0.0, total_reward=0.0, success=None,
    )  # fmt: skip


def _acting(moment: Moment, action: Any) -> Moment:
    return Moment(**{**vars(moment), "action": action})


def _next(moment: Moment, step: tuple[Any, ...]) -> Moment:
    observation, reward, _, _, info = step
    success = moment.success
    if "success" in info:
        success = bool(success or info["success"])
    return Moment(
        row=moment.row,
        step=moment.step + 1,
        observation=observation,
        action=None,
        reward=reward,
        total_reward=moment.total_reward + reward,
        success=success,
    )
