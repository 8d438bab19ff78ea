"""Five small control tasks of gymnasium: quick to run, quick to learn.

| task | observation `state` | action | steps | success |
|---|---|---|---|---|
| CartPole-v1 | position, velocity, angle, angular velocity | 2: left, right | 500 | - |
| Acrobot-v1 | cos, sin of both angles, both velocities | 3: torque -1, 0, 1 | 500 | goal height |
| MountainCar-v0 | position, velocity | 3: left, none, right | 200 | goal reached |
| MountainCarContinuous-v0 | position, velocity | 1 in [-1, 1]: force | 999 | goal reached |
| Pendulum-v1 | cos, sin, angular velocity | 1 in [-1, 1]: torque / 2 | 200 | - |
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from db1.runtime import draw_off_screen
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

_CONTINUOUS = FieldSpec(kind="continuous", shape=(1,))

TASKS: dict[str, tuple[int, int, FieldSpec]] = {
    # name: numbers observed, steps, action
    "CartPole-v1": (4, 500, FieldSpec(kind="discrete", num_values=2)),
    "Acrobot-v1": (6, 500, FieldSpec(kind="discrete", num_values=3)),
    "MountainCar-v0": (2, 200, FieldSpec(kind="discrete", num_values=3)),
    "MountainCarContinuous-v0": (2, 999, _CONTINUOUS),
    "Pendulum-v1": (3, 200, _CONTINUOUS),
}
EXPERTS = {
    "CartPole-v1": "cartpole_lqr",
    "Acrobot-v1": "acrobot_planner",
    "MountainCar-v0": "mountain_car_value",
    "MountainCarContinuous-v0": "mountain_car_continuous_value",
    "Pendulum-v1": "pendulum_value",
}
ACTION_NAMES = {
    "CartPole-v1": ("left", "right"),
    "Acrobot-v1": ("torque -1", "no torque", "torque +1"),
    "MountainCar-v0": ("left", "none", "right"),
}
GOAL_TASKS = frozenset({"Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"})


class ClassicControlEnv(TaskEnv):
    """One classic control task.

    Args:
        task_id: `classic_control/<gymnasium id>`.
        spec: Fields of one step.
        max_steps: Steps until the episode is cut.
        simulator: The environment of gymnasium, without its time limit.
        knows_success: True when the task ends exactly when its goal is reached.
    """

    def __init__(
        self, task_id: str, spec: StepSpec, max_steps: int, simulator: Any, knows_success: bool
    ) -> None:
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=simulator)
        self._knows_success = knows_success

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        state, _ = self.simulator.reset(seed=seed)
        return {"state": state}, self._info(False)

    def _step(self, action: Any) -> StepResult:
        if self.step_spec.action.kind == "continuous":
            action = np.asarray(action) * self.simulator.action_space.high
        state, reward, terminated, truncated, _ = self.simulator.step(action)
        return {"state": state}, reward, terminated, truncated, self._info(terminated)

    def render_frame(self) -> np.ndarray:  # uint8 (H, W, 3)
        draw_off_screen()
        self.simulator.render_mode = "rgb_array"  # read by every render()
        return np.asarray(self.simulator.render(), dtype=np.uint8)

    def action_names(self) -> tuple[str, ...] | None:
        return ACTION_NAMES.get(self.task_id.split("/")[1])

    def _info(self, terminated: bool) -> dict[str, Any]:
        return {"success": bool(terminated)} if self._knows_success else {}

    def close(self) -> None:
        self.simulator.close()


class ClassicControl(Suite):
    """The classic control tasks that come with gymnasium itself."""

    name = "classic_control"
    extra = "classic_control"
    packages = MappingProxyType({"gymnasium": "gymnasium"})

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return TASKS[task_name][1]

    def expert_name(self, task_name: str) -> str:
        return EXPERTS[task_name]

    def _make_env(self, task_name: str) -> ClassicControlEnv:
        import gymnasium

        size, max_steps, action = TASKS[task_name]
        spec = StepSpec(
            observation={"state": FieldSpec(kind="continuous", shape=(size,))}, action=action
        )
        simulator = gymnasium.make(task_name, disable_env_checker=True).unwrapped
        task_id = f"{self.name}/{task_name}"
        return ClassicControlEnv(task_id, spec, max_steps, simulator, task_name in GOAL_TASKS)


SUITES.register("classic_control")(ClassicControl())
