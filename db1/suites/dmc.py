"""The DeepMind Control Suite (dm-control 1.0.28), from joint states or from pixels.

    observation  one continuous field per key of dm_control's dict (a single number becomes (1,));
                 `<task>-pixels`: one image `pixels` 64x64x3 of camera 0
    action       numbers in [-1, 1], rescaled to the actuators' bounds; the lqr tasks have none,
                 their forces are taken as they are
    reward       dm_control's, 0..1 a step (lqr: 1 minus a cost); 1,000 steps

Pixels, and the quadruped's escape and fetch, need OpenGL: without a display EGL or OSMesa, which
`db1.runtime.choose_renderer` finds unless MUJOCO_GL is set.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.runtime import choose_renderer
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv, rescaled
from db1.suites.mujoco_frames import FRAME_SIZE, HOW_TO_RENDER, render_failure
from db1.tokens.spec import FieldSpec, StepSpec

HORIZON = 1000
PIXELS = "-pixels"
_NAMES = (
    "acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance "
    "cartpole-balance_sparse cartpole-swingup cartpole-swingup_sparse cartpole-two_poles "
    "cartpole-three_poles cheetah-run dog-stand dog-walk dog-trot dog-run dog-fetch finger-spin "
    "finger-turn_easy finger-turn_hard fish-upright fish-swim hopper-stand hopper-hop "
    "humanoid-stand humanoid-walk humanoid-run humanoid-run_pure_state humanoid_CMU-stand "
    "humanoid_CMU-walk humanoid_CMU-run lqr-lqr_2_1 lqr-lqr_6_2 manipulator-bring_ball "
    "manipulator-bring_peg manipulator-insert_ball manipulator-insert_peg pendulum-swingup "
    "point_mass-easy point_mass-hard quadruped-walk quadruped-run quadruped-escape "
    "quadruped-fetch reacher-easy reacher-hard stacker-stack_2 stacker-stack_4 swimmer-swimmer6 "
    "swimmer-swimmer15 walker-stand walker-walk walker-run"
)
TASKS = tuple(_NAMES.split())
IMAGE_SIZE = 64
UNBOUNDED = 1e9
RENDERED = frozenset({"quadruped-escape", "quadruped-fetch"})
"""Tasks whose reset needs OpenGL even without pixels."""
_PLANNED = (
    "ball_in_cup-catch finger-spin finger-turn_easy finger-turn_hard fish-upright fish-swim "
    "hopper-stand point_mass-hard walker-stand walker-walk walker-run"
)
PLANNED = tuple(_PLANNED.split())
"""Tasks whose planner reaches at least half of the reference (docs/suites/dmc.md)."""
EXPERTS = {
    "cartpole-balance": "dmc_cartpole",
    "cartpole-balance_sparse": "dmc_cartpole",
    "cartpole-swingup": "dmc_cartpole",
    "cartpole-swingup_sparse": "dmc_cartpole",
    "lqr-lqr_2_1": "dmc_lqr",
    "lqr-lqr_6_2": "dmc_lqr",
    "pendulum-swingup": "dmc_pendulum",
    "point_mass-easy": "dmc_point_mass",
    "reacher-easy": "dmc_reacher",
    "reacher-hard": "dmc_reacher",
    **dict.fromkeys(PLANNED, "planner"),
}
_PLAIN = {"shadow": False, "reflection": False}
"""Without shadows, reflections and multisampling a software renderer is ten times faster."""
_NO_OPENGL = "{task}: cannot render ({why}); " + HOW_TO_RENDER


class DmcEnv(TaskEnv):
    """One task of the Control Suite.

    Args:
        task_id: `dmc/<domain>-<task>` or `dmc/<domain>-<task>-pixels`.
        simulator: The environment of dm_control.
        pixels: True: the observation is an image.
    """

    def __init__(self, task_id: str, simulator: Any, pixels: bool) -> None:
        spec = _step_spec(simulator, pixels)
        super().__init__(task_id=task_id, step_spec=spec, max_steps=HORIZON, simulator=simulator)
        self._pixels = pixels
        action = simulator.action_spec()
        bounded = action.maximum < UNBOUNDED
        self._low = np.where(bounded, action.minimum, -1.0)
        self._high = np.where(bounded, action.maximum, 1.0)

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.simulator.task._random = np.random.RandomState(seed)
        return self._observe(self.simulator.reset()), {}

    def _step(self, action: np.ndarray) -> StepResult:
        timestep = self.simulator.step(rescaled(action, self._low, self._high))
        ended = bool(timestep.last() and timestep.discount == 0.0)
        truncated = bool(timestep.last() and not ended)
        return self._observe(timestep), timestep.reward, ended, truncated, {}

    def _observe(self, timestep: Any) -> Observation:
        if not self._pixels:
            return dict(timestep.observation)
        return {"pixels": _render(self.simulator, IMAGE_SIZE)}

    def render_frame(self) -> np.ndarray:
        """Camera 0, (240, 240, 3)."""
        if (why := render_failure()) is not None:
            raise DataError(_NO_OPENGL.format(task=self.task_id, why=why))
        return _render(self.simulator, FRAME_SIZE)

    def close(self) -> None:
        self.simulator.close()


class Dmc(Suite):
    """All tasks of `dm_control.suite.ALL_TASKS`, each also with pixels."""

    name = "dmc"
    extra = "dmc"
    packages = MappingProxyType({"dm_control": "dm-control", "mujoco": "mujoco"})

    def task_names(self) -> list[str]:
        return [*TASKS, *(name + PIXELS for name in TASKS)]

    def horizon(self, task_name: str) -> int:
        return HORIZON

    def expert_name(self, task_name: str) -> str | None:
        return EXPERTS.get(task_name.removesuffix(PIXELS))

    def packed_order(self, task_name: str) -> tuple[str, ...]:
        """dm_control's own order, in which its flat observations and most data sets are."""
        if task_name.endswith(PIXELS):
            return ()
        env = self._make_env(task_name)
        try:
            return tuple(env.simulator.observation_spec())
        finally:
            env.close()

    def task_missing(self, task_name: str) -> str | None:
        """Returns why the task cannot run here; renders one frame where it needs OpenGL."""
        reason = super().task_missing(task_name)
        if reason is not None or not (task_name.endswith(PIXELS) or task_name in RENDERED):
            return reason
        why = render_failure()
        return why and _NO_OPENGL.format(task=f"{self.name}/{task_name}", why=why)

    def _make_env(self, task_name: str) -> DmcEnv:
        choose_renderer()
        from dm_control import suite

        if (reason := self.task_missing(task_name)) is not None:
            raise DataError(reason)
        name = task_name.removesuffix(PIXELS)
        # The lqr tasks draw their springs when they are built: 0 fixes them.
        simulator = suite.load(*name.split("-"), task_kwargs={"random": 0})
        simulator.physics.model.vis.quality.offsamples = 0
        return DmcEnv(f"{self.name}/{task_name}", simulator, name != task_name)


def _render(simulator: Any, size: int) -> np.ndarray:
    """Returns uint8 (size, size, 3) of camera 0."""
    return simulator.physics.render(size, size, camera_id=0, render_flag_overrides=_PLAIN)


def _step_spec(simulator: Any, pixels: bool) -> StepSpec:
    action = FieldSpec(kind="continuous", shape=simulator.action_spec().shape)
    if pixels:
        image = FieldSpec(kind="image", shape=(IMAGE_SIZE, IMAGE_SIZE, 3))
        return StepSpec(observation={"pixels": image}, action=action)
    fields = {
        key: FieldSpec(kind="continuous", shape=spec.shape or (1,))
        for key, spec in simulator.observation_spec().items()
    }
    return StepSpec(observation=fields, action=action)


SUITES.register("dmc")(Dmc())
