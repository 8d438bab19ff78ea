"""Modular locomotion: 38 bodies of 2 to 9 limbs that run forward.

    observation  `limbs`: 19 numbers a limb, torso first: position relative to the torso's x (3),
                 velocity cut to [-10, 10] (3), angular velocity (3), orientation as rotation vector
                 (3), kind of limb (4), joint angle within its range, the range's ends (3)
    action       one torque a joint, in [-1, 1]
    reward       forward speed, minus what the torques cost, plus 1 a step for staying up (cheetahs
                 cannot fall and get none); 1,000 steps

Source: Huang et al. 2020, "One Policy to Control Them All"; the public DB1 release.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv, rescaled
from db1.suites.modular_bodies import PACKAGE, body_xml
from db1.suites.mujoco_frames import MujocoCamera
from db1.tokens.spec import FieldSpec, StepSpec

HORIZON = 1000
FRAME_SKIP = 4
NUMBERS_A_LIMB = 19
_NAMES = (
    "cheetah_2_back cheetah_2_front cheetah_3_back cheetah_3_balanced cheetah_3_front "
    "cheetah_4_allback cheetah_4_allfront cheetah_4_back cheetah_4_front cheetah_5_back "
    "cheetah_5_balanced cheetah_5_front cheetah_6_back cheetah_6_front cheetah_7_full hopper_3 "
    "hopper_4 hopper_5 humanoid_2d_7_left_arm humanoid_2d_7_left_leg humanoid_2d_7_lower_arms "
    "humanoid_2d_7_right_arm humanoid_2d_7_right_leg humanoid_2d_8_left_knee "
    "humanoid_2d_8_right_knee humanoid_2d_9_full walker_2_flipped walker_2_main walker_3_flipped "
    "walker_3_main walker_4_flipped walker_4_main walker_5_flipped walker_5_main walker_6_flipped "
    "walker_6_main walker_7_flipped walker_7_main"
)
TASKS = tuple(_NAMES.split())


@dataclass(frozen=True, kw_only=True)
class Family:
    """Rules that bodies of one kind share.

    Args:
        control_cost: Factor of the squared torques.
        alive_reward: Reward a step.
        start_noise: Half width of the uniform noise on the start's positions.
        normal_velocities: Start velocities are normal of that deviation, not uniform.
        heights: Lowest and highest torso height of a body that is up; None: it cannot fall.
        largest_state: Larger positions or velocities end the episode.
        limb_kinds: Parts of body names that tell the four kinds of limbs.
    """

    control_cost: float = 1e-3
    alive_reward: float = 1.0
    start_noise: float = 0.005
    normal_velocities: bool = False
    heights: tuple[float, float] | None = None
    largest_state: float = np.inf
    limb_kinds: tuple[str, str, str, str]


_LARGEST_ANGLE = 1.0
_HUMANOID_LIMBS = ("thigh", "shin", "upper_arm", "lower_arm")
_HOPPER_LIMBS = ("torso", "thigh", "leg", "foot")
_WALKER_LOWERED = {"2": 0.26, "3": 0.26, "4": 0.136}
"""Offsets by which these stand lower than the full walker's 0.8 to 2.0."""
_HOPPER_LOWEST = {"3": 0.45, "4": 0.6, "5": 0.95}


def family_of(name: str) -> Family:
    """Returns the rules of a body."""
    kind, *rest = name.split("_")
    if kind == "cheetah":
        return Family(
            control_cost=0.1,
            alive_reward=0.0,
            start_noise=0.1,
            normal_velocities=True,
            limb_kinds=("torso", "thigh", "shin", "foot"),
        )
    if kind == "hopper":
        heights = (_HOPPER_LOWEST[rest[0]], np.inf)
        return Family(heights=heights, largest_state=100.0, limb_kinds=_HOPPER_LIMBS)
    if kind == "humanoid":
        return Family(heights=(0.4, 2.1), limb_kinds=_HUMANOID_LIMBS)
    lowered = _WALKER_LOWERED.get(rest[0], 0.0)
    return Family(heights=(0.8 - lowered, 2.0 - lowered), limb_kinds=("torso", "1", "2", "3"))


class ModularEnv(TaskEnv):
    """One body on a flat floor.

    Args:
        task_id: `modular_rl/<body>`.
        name: The body.
    """

    def __init__(self, task_id: str, name: str) -> None:
        import mujoco

        self.model = mujoco.MjModel.from_xml_string(body_xml(name))
        self.data = mujoco.MjData(self.model)
        self._family = family_of(name)
        self._limbs = range(1, self.model.nbody)
        self._constants = np.stack([self._limb_constants(body) for body in self._limbs])
        shape = (NUMBERS_A_LIMB * len(self._limbs),)
        spec = StepSpec(
            observation={"limbs": FieldSpec(kind="continuous", shape=shape)},
            action=FieldSpec(kind="continuous", shape=(self.model.nu,)),
        )
        super().__init__(
            task_id=task_id, step_spec=spec, max_steps=HORIZON, simulator=(self.model, self.data)
        )
        self._camera: MujocoCamera | None = None

    @property
    def step_seconds(self) -> float:
        """Simulated seconds of a step."""
        return self.model.opt.timestep * FRAME_SKIP

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        import mujoco

        rng = np.random.default_rng(seed)
        noise = self._family.start_noise
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos += rng.uniform(-noise, noise, size=self.model.nq)
        if self._family.normal_velocities:
            self.data.qvel += rng.normal(0.0, noise, size=self.model.nv)
        else:
            self.data.qvel += rng.uniform(-noise, noise, size=self.model.nv)
        mujoco.mj_forward(self.model, self.data)
        return {"limbs": self._observe()}, {}

    def _step(self, action: np.ndarray) -> StepResult:
        import mujoco

        before = self.data.qpos[0]
        low, high = self.model.actuator_ctrlrange.T
        self.data.ctrl[:] = rescaled(action, low, high)
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        mujoco.mj_forward(self.model, self.data)  # positions of limbs after the last step
        speed = (self.data.qpos[0] - before) / self.step_seconds
        cost = self._family.control_cost * np.square(self.data.ctrl).sum()
        reward = self._family.alive_reward + speed - cost
        return {"limbs": self._observe()}, reward, not self.is_up(), False, {}

    def render_frame(self) -> np.ndarray:  # uint8 (H, W, 3)
        if self._camera is None:
            self._camera = MujocoCamera(self.model, "track")
        return self._camera.frame(self.data)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()

    def is_up(self) -> bool:
        """Tells whether the body has not fallen."""
        if self._family.heights is None:
            return True
        low, high = self._family.heights
        _, height, angle = self.data.qpos[:3]
        state = np.concatenate([self.data.qpos[2:], self.data.qvel])
        sound = bool((np.abs(state) < self._family.largest_state).all())
        return sound and low < height < high and abs(angle) < _LARGEST_ANGLE

    def _observe(self) -> np.ndarray:
        import mujoco

        data, limbs = self.data, slice(1, None)
        positions = data.xpos[limbs].copy()
        positions[:, 0] -= data.xpos[1, 0]
        velocities = np.empty((len(self._limbs), 6))
        rotations = np.empty((len(self._limbs), 3))
        for row, body in enumerate(self._limbs):
            mujoco.mj_objectVelocity(
                self.model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocities[row], 0
            )
            mujoco.mju_quat2Vel(rotations[row], data.xquat[body], 1.0)
        return np.concatenate(
            [
                positions,
                np.clip(velocities[:, 3:], -10.0, 10.0),
                velocities[:, :3],
                rotations,
                self._constants[:, :4],
                self._angles()[:, None],
                self._constants[:, 4:],
            ],
            axis=1,
        ).ravel()

    def _angles(self) -> np.ndarray:
        """Each limb's joint angle within its range, 0 to 1; 0 for the torso."""
        angles = np.zeros(len(self._limbs))
        joints = self.model.body_jntadr[2:]
        low, high = self.model.jnt_range[joints].T
        angles[1:] = (self.data.qpos[self.model.jnt_qposadr[joints]] - low) / (high - low)
        return angles

    def _limb_constants(self, body: int) -> np.ndarray:
        """Kind of the limb (4) and the ends of its joint's range as shares of a full turn (2)."""
        constants = np.zeros(6)
        name = self.model.body(body).name
        for place, part in enumerate(self._family.limb_kinds):
            if part in name:
                constants[place] = 1.0
                break
        if body > 1:
            ends = np.degrees(self.model.jnt_range[self.model.body_jntadr[body]])
            constants[4:] = (180.0 + ends) / 360.0
        return constants


class ModularRl(Suite):
    """Cheetahs, hoppers, flat humanoids and walkers with limbs left out."""

    name = "modular_rl"
    extra = "modular_rl"
    packages = MappingProxyType({PACKAGE: "modular-mujoco-envs", "mujoco": "mujoco"})
    rules = "1"

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return HORIZON

    def expert_name(self, task_name: str) -> str | None:
        return "planner"

    def _make_env(self, task_name: str) -> ModularEnv:
        return ModularEnv(f"{self.name}/{task_name}", task_name)


SUITES.register("modular_rl")(ModularRl())
