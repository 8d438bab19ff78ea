"""The eleven MuJoCo tasks of gymnasium, version 5.

observation  `state`: joint positions and velocities, and what else the task gives (4 to 348)
action       joint torques in [-1, 1], rescaled to the motors' bounds
reward       gymnasium's: dense; Hopper, Walker2d, Ant, Humanoid and the inverted pendulums end
             when they fall
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv, rescaled
from db1.suites.mujoco_frames import MujocoCamera, gymnasium_camera
from db1.tokens.spec import FieldSpec, StepSpec

TASKS = {
    # name: steps of an episode
    "Ant-v5": 1000,
    "HalfCheetah-v5": 1000,
    "Hopper-v5": 1000,
    "Humanoid-v5": 1000,
    "HumanoidStandup-v5": 1000,
    "InvertedDoublePendulum-v5": 1000,
    "InvertedPendulum-v5": 1000,
    "Pusher-v5": 100,
    "Reacher-v5": 50,
    "Swimmer-v5": 1000,
    "Walker2d-v5": 1000,
}
_PLANNED = "HalfCheetah-v5 InvertedPendulum-v5 Pusher-v5 Reacher-v5 Swimmer-v5 Walker2d-v5"
PLANNED = frozenset(_PLANNED.split())
"""Tasks whose planner reaches at least half of the reference (docs/suites/mujoco.md)."""


class MujocoEnv(TaskEnv):
    """One MuJoCo task of gymnasium.

    Args:
        task_id: `mujoco/<gymnasium id>`.
        simulator: The environment of gymnasium, without its time limit.
        max_steps: Steps until the episode is cut.
    """

    def __init__(self, task_id: str, simulator: Any, max_steps: int) -> None:
        spec = StepSpec(
            observation={
                "state": FieldSpec(kind="continuous", shape=simulator.observation_space.shape)
            },
            action=FieldSpec(kind="continuous", shape=simulator.action_space.shape),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=simulator)
        self._camera: MujocoCamera | None = None

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        state, _ = self.simulator.reset(seed=seed)
        return {"state": state}, {}

    def _step(self, action: np.ndarray) -> StepResult:
        bounds = self.simulator.action_space
        state, reward, terminated, truncated, _ = self.simulator.step(
            rescaled(action, bounds.low, bounds.high)
        )
        return {"state": state}, reward, terminated, truncated, {}

    def render_frame(self) -> np.ndarray:  # uint8 (H, W, 3)
        if self._camera is None:
            self._camera = gymnasium_camera(self.simulator)
        return self._camera.frame(self.simulator.data)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self.simulator.close()


class Mujoco(Suite):
    """Gymnasium's locomotion and reaching tasks."""

    name = "mujoco"
    extra = "mujoco"
    packages = MappingProxyType({"gymnasium": "gymnasium", "mujoco": "mujoco"})

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return TASKS[task_name]

    def expert_name(self, task_name: str) -> str | None:
        return "planner" if task_name in PLANNED else None

    def _make_env(self, task_name: str) -> MujocoEnv:
        import gymnasium

        simulator = gymnasium.make(task_name, disable_env_checker=True).unwrapped
        return MujocoEnv(f"{self.name}/{task_name}", simulator, TASKS[task_name])


SUITES.register("mujoco")(Mujoco())
