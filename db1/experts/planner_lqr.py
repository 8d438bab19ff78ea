"""The linear-quadratic tasks of the Control Suite, where the best plan is known in closed form."""

from __future__ import annotations

import numpy as np

from db1.experts.base import EXPERTS
from db1.experts.control import lqr_gain
from db1.experts.dmc import _linearised
from db1.experts.planning.control_suite_machines import LinearQuadratic
from db1.suites.base import Observation, TaskEnv


class LqrExpert:
    """The linear-quadratic regulator of masses on springs.

    Args:
        task_name: `lqr-lqr_2_1` or `lqr-lqr_6_2`.
    """

    def __init__(self, task_name: str) -> None:
        self._gain = np.zeros((0, 0))

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Solves the Riccati equation of the simulator's own dynamics."""
        a, b = _linearised(env)
        masses, forces = len(a) // 2, b.shape[1]
        cost = np.diag([1.0] * masses + [0.0] * masses)
        self._gain = lqr_gain(a, b, cost, LinearQuadratic.FORCE_COST * np.eye(forces))

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (number of forces,)."""
        data = env.unwrapped.simulator.physics.data
        forces = -self._gain @ np.concatenate([data.qpos, data.qvel])
        return np.clip(forces, -1.0, 1.0).astype(np.float32)


EXPERTS.register("dmc_lqr")(LqrExpert)
