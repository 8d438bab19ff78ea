"""Meta-World's own scripted policies, one a task: functions of the current observation only."""

from __future__ import annotations

import warnings

import numpy as np

from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv


class MetaWorldPolicy:
    """The scripted policy that ships with Meta-World, clipped to [-1, 1].

    Args:
        task_name: Such as `reach-v3`.
    """

    def __init__(self, task_name: str) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._policy = ENV_POLICY_MAP[task_name]()

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the policy has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (4,)."""
        state = observation["state"].astype(np.float64)
        with warnings.catch_warnings():  # it warns of actions beyond 1, which are clipped here
            warnings.simplefilter("ignore", UserWarning)
            action = self._policy.get_action(state)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


EXPERTS.register("metaworld_policy")(MetaWorldPolicy)
