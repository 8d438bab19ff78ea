"""Meta-World's 50 v3 manipulation tasks with a visible goal (package metaworld 3.1.1).

    observation  `state`  39 numbers: this frame's 18 (hand xyz, gripper opening, two objects'
                          positions and quaternions), the last frame's 18, the goal's 3
    action       4 numbers in [-1, 1]: hand displacement xyz, gripper effort
    reward       Meta-World's dense reward, 0..10 a step; an episode always has 500 steps

Episodes do not stop at success, so returns compare with published 500-step scores;
`info["success"]` tells whether the step just made ended in success.
"""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.mujoco_frames import MujocoCamera
from db1.tokens.spec import FieldSpec, StepSpec

HORIZON = 500
STEP_SPEC = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(39,))},
    action=FieldSpec(kind="continuous", shape=(4,)),
)
_NAMES = (
    "assembly basketball bin-picking box-close button-press-topdown button-press-topdown-wall "
    "button-press button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble "
    "door-close door-lock door-open door-unlock hand-insert drawer-close drawer-open faucet-open "
    "faucet-close hammer handle-press-side handle-press handle-pull-side handle-pull lever-pull "
    "peg-insert-side pick-place-wall pick-out-of-hole reach push-back push pick-place plate-slide "
    "plate-slide-side plate-slide-back plate-slide-back-side peg-unplug-side soccer stick-push "
    "stick-pull push-wall reach-wall shelf-place sweep-into sweep window-open window-close"
)
_VIEW = {
    "lookat": np.array([0.0, 0.65, 0.12]),
    "distance": 1.5,
    "azimuth": 230.0,
    "elevation": -25.0,
}
TASKS = tuple(_NAMES.split())


class MetaWorldEnv(TaskEnv):
    """One Meta-World task; the reset seed draws the object and goal positions.

    Args:
        task_id: `metaworld/<task>-v3`.
        simulator: An environment class of metaworld, built with a visible goal.
    """

    def __init__(self, task_id: str, simulator: Any) -> None:
        super().__init__(
            task_id=task_id, step_spec=STEP_SPEC, max_steps=HORIZON, simulator=simulator
        )
        self._camera: MujocoCamera | None = None

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.simulator.seed(seed)
        state, _ = self.simulator.reset()
        return {"state": state}, {"success": False}

    def _step(self, action: np.ndarray) -> StepResult:
        state, reward, terminated, truncated, info = self.simulator.step(action)
        success = {"success": bool(info["success"])}
        return {"state": state}, reward, terminated, truncated, success

    def render_frame(self) -> np.ndarray:
        """The table from in front of the robot, uint8 (H, W, 3)."""
        if self._camera is None:
            self._camera = MujocoCamera(self.simulator.model, view=_VIEW)
        return self._camera.frame(self.simulator.data)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self.simulator.close()


class MetaWorld(Suite):
    """The 50 tasks; compiled MuJoCo models are kept, so that a second environment is cheap."""

    name = "metaworld"
    extra = "metaworld"
    packages = MappingProxyType({"metaworld": "metaworld", "mujoco": "mujoco"})

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}

    def task_names(self) -> list[str]:
        return [f"{task}-v3" for task in TASKS]

    def horizon(self, task_name: str) -> int:
        return HORIZON

    def expert_name(self, task_name: str) -> str:
        return "metaworld_policy"

    def _make_env(self, task_name: str) -> MetaWorldEnv:
        from metaworld.env_dict import ENV_CLS_MAP

        simulator = _from_compiled(ENV_CLS_MAP[task_name], self._compiled)()
        simulator._partially_observable = False
        simulator.__dict__.pop("sawyer_observation_space", None)
        simulator._freeze_rand_vec = False
        simulator.seeded_rand_vec = True
        simulator._set_task_called = True
        return MetaWorldEnv(f"{self.name}/{task_name}", simulator)


def _from_compiled(env_class: type, compiled: dict[str, Any]) -> type:
    """Returns a subclass that copies the model out of `compiled` instead of compiling its XML.

    Reading the meshes and compiling takes 0.2-0.5 s, a copy takes 0.02 s.
    """

    class Compiled(env_class):  # type: ignore[misc, valid-type]
        def _initialize_simulation(self) -> tuple[Any, Any]:
            import mujoco

            if self.fullpath not in compiled:
                compiled[self.fullpath] = super()._initialize_simulation()[0]
            model = copy.deepcopy(compiled[self.fullpath])
            return model, mujoco.MjData(model)

    return Compiled


SUITES.register("metaworld")(MetaWorld())
