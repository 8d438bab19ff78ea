"""Rewards of gymnasium's MuJoCo tasks, version 5, over many trajectories.

Costs of contact forces are left out. Positions of bodies are those after the step; gymnasium reads
them from MjData after `mj_step`, where they lag by a part of a physics step.
"""

from __future__ import annotations

import numpy as np

from db1.experts.planning.kinematics import Kinematics
from db1.experts.planning.objective import OBJECTIVES, Objective, between, squared
from db1.experts.planning.rollouts import Trajectories


@OBJECTIVES.register("mujoco/HalfCheetah-v5")
class HalfCheetah(Objective):
    """Forward speed minus torques."""

    CONTROL_COST = 0.1

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return t.forward_speed - self.CONTROL_COST * squared(t.ctrl)


@OBJECTIVES.register("mujoco/Swimmer-v5")
class Swimmer(Objective):
    """Forward speed minus torques."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return t.forward_speed - 1e-4 * squared(t.ctrl)


@OBJECTIVES.register("mujoco/Walker2d-v5")
class Walker2d(Objective):
    """Forward speed, and 1 a step for staying up."""

    fall_cost = 100.0
    LEAN_COST, BEND_COST, HASTE, HEIGHT = 1.0, 0.0, 5.0, 1.1

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return t.forward_speed + self._healthy(t) - 1e-3 * squared(t.ctrl)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        """Leaning, crouching and haste are what falls begin with."""
        haste = np.maximum(0.0, t.forward_speed - self.HASTE)
        crouch = np.maximum(0.0, self.HEIGHT - t.qpos[:, 1:, 1])
        bent = squared(t.qpos[:, 1:, 3:5])
        lean = t.qpos[:, 1:, 2] ** 2
        return -self.LEAN_COST * lean - self.BEND_COST * bent - 10.0 * crouch - 2.0 * haste

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        return ~self._healthy(t)

    def _healthy(self, t: Trajectories) -> np.ndarray:
        height, angle = t.qpos[:, 1:, 1], t.qpos[:, 1:, 2]
        return between(height, 0.8, 2.0) & between(angle, -1.0, 1.0)


@OBJECTIVES.register("mujoco/Hopper-v5")
class Hopper(Walker2d):
    """Forward speed, and 1 a step for staying up."""

    LEAN_COST, BEND_COST, HASTE, HEIGHT = 20.0, 2.0, 1.2, 1.15

    def _healthy(self, t: Trajectories) -> np.ndarray:
        height, angle = t.qpos[:, 1:, 1], t.qpos[:, 1:, 2]
        state = np.concatenate([t.qpos[:, 1:, 2:], t.qvel[:, 1:]], axis=-1)
        up = (height > 0.7) & between(angle, -0.2, 0.2)
        return up & between(state, -100.0, 100.0).all(axis=-1)


@OBJECTIVES.register("mujoco/Ant-v5")
class Ant(Objective):
    """Forward speed, and 1 a step for staying up."""

    leaves_out = "contact_cost"
    fall_cost = 50.0

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return t.forward_speed + self._healthy(t) - 0.5 * squared(t.ctrl)

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        return ~self._healthy(t)

    def _healthy(self, t: Trajectories) -> np.ndarray:
        height = t.qpos[:, 1:, 2]
        return (height >= 0.2) & (height <= 1.0)


@OBJECTIVES.register("mujoco/Humanoid-v5")
class Humanoid(Objective):
    """Forward speed of the centre of mass, and 5 a step for staying up."""

    leaves_out = "contact_cost"
    fall_cost = 100.0

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        masses, places = t.model.body_mass, Kinematics(t.model, t.qpos)
        centre = sum(
            masses[body] * places.body_centre(body)[..., 0] for body in range(1, t.model.nbody)
        )
        speed = np.diff(centre / masses.sum(), axis=1) / t.step_seconds
        return 1.25 * speed + 5.0 * self._healthy(t) - 0.1 * squared(t.ctrl)

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        return ~self._healthy(t)

    def _healthy(self, t: Trajectories) -> np.ndarray:
        return between(t.qpos[:, 1:, 2], 1.0, 2.0)


@OBJECTIVES.register("mujoco/HumanoidStandup-v5")
class HumanoidStandup(Objective):
    """Height of the torso."""

    leaves_out = "impact cost"

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        height = t.qpos[:, 1:, 2]
        return height / t.model.opt.timestep - 0.1 * squared(t.ctrl) + 1.0


@OBJECTIVES.register("mujoco/Reacher-v5")
class Reacher(Objective):
    """Nearness of the fingertip to the target."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        places = t.places
        away = places.body("fingertip") - places.body("target")
        return -np.linalg.norm(away, axis=-1) - squared(t.ctrl)


@OBJECTIVES.register("mujoco/Pusher-v5")
class Pusher(Objective):
    """Nearness of the object to the goal, and of the arm to the object."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        places = t.places
        thing = places.body("object")
        near = np.linalg.norm(thing - places.body("tips_arm"), axis=-1)
        away = np.linalg.norm(thing - places.body("goal"), axis=-1)
        return -away - 0.5 * near - 0.1 * squared(t.ctrl)


@OBJECTIVES.register("mujoco/InvertedPendulum-v5")
class InvertedPendulum(Objective):
    """1 a step until the pole leans."""

    LARGEST_ANGLE = 0.2

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return (~self.ended(t)).astype(np.float64)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -3.0 * squared(t.qpos[:, 1:]) - 0.05 * squared(t.qvel[:, 1:])

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        return np.abs(t.qpos[:, 1:, 1]) > self.LARGEST_ANGLE


@OBJECTIVES.register("mujoco/InvertedDoublePendulum-v5")
class InvertedDoublePendulum(Objective):
    """10 a step for a tip above 1 m, minus distances and speeds."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        tip = self._tip(t)
        first, second = t.qvel[:, 1:, 1], t.qvel[:, 1:, 2]
        distance = 0.01 * tip[..., 0] ** 2 + (tip[..., 2] - 2.0) ** 2
        speed = 1e-3 * first**2 + 5e-3 * second**2
        return 10.0 * ~self.ended(t) - distance - speed

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -3.0 * t.qpos[:, 1:, 0] ** 2 - 0.3 * t.qvel[:, 1:, 0] ** 2

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        return self._tip(t)[..., 2] <= 1.0

    def _tip(self, t: Trajectories) -> np.ndarray:
        return t.places.site(t.model.site(0).name)
