"""Model-predictive control: the simulator is asked what would happen, and the best is done.

Before each action the planner tries noisy copies of its plan in the environment's own simulator,
from the state that the environment is in (so that noise on what is executed is answered), scores
them by the task's reward, and executes the beginning of the best one.
"""

from __future__ import annotations

import zlib

import numpy as np

from db1.errors import DataError
from db1.experts.base import EXPERTS
from db1.experts.planning import (
    Optimizer,
    PlannerSettings,
    Simulator,
    make_objective,
    settings_of,
)
from db1.suites.base import Observation, TaskEnv


class PlannerExpert:
    """Plans in the simulator of dmc, mujoco and modular_rl tasks.

    Args:
        task_name: The task in its suite; the rest is read from the environment at `reset`.
        settings: How to plan; None: as the table says for the task.
        threads: Threads that simulate; the actions do not depend on it.
    """

    def __init__(
        self, task_name: str, *, settings: PlannerSettings | None = None, threads: int = 1
    ) -> None:
        self._task_name = task_name
        self._settings = settings
        self._threads = threads
        self._plan = np.zeros((0, 0))
        self._next = 0

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Forgets the plan; the noise of the episode is drawn from the task and the seed."""
        task_id = env.unwrapped.task_id
        rng = np.random.default_rng((zlib.crc32(task_id.encode()), seed, 1))
        self._used = self._settings or settings_of(task_id)
        self._objective = make_objective(task_id)
        self._simulator = Simulator(
            env, coarse=self._used.coarse, euler=self._used.euler, threads=self._threads
        )
        self._optimizer = Optimizer(self._used, self._simulator.action_dim, rng)
        self._plan, self._next = np.zeros((0, 0)), 0

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (nu,).

        Raises:
            DataError: When every sequence tried makes the simulation diverge.
        """
        if self._next >= min(self._used.replan_steps, len(self._plan)) or self._disturbed(env):
            self._optimizer.shift(self._next)
            self._plan, self._next = self._optimizer.improve(self._score), 0
        action = self._plan[self._next].astype(np.float32)
        self._next += 1
        return action

    def _disturbed(self, env: TaskEnv) -> bool:
        """Tells whether another action was executed than the planned one."""
        if self._next == 0 or env.unwrapped.last_action is None:
            return False
        wanted = self._plan[self._next - 1].astype(np.float32)
        return not np.array_equal(wanted, env.unwrapped.last_action)

    def _score(self, actions: np.ndarray) -> np.ndarray:
        scores = self._objective.score(self._simulator.try_out(actions))
        if not np.isfinite(scores).any():
            raise DataError(f"{self._task_name}: no action sequence keeps the simulation finite")
        return scores


EXPERTS.register("planner")(PlannerExpert)
