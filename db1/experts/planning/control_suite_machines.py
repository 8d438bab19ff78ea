"""Rewards of the Control Suite's poles, arms and balls.

Source: dm_control 1.0.28, `get_reward` of each domain; the hints are db1's.
"""

from __future__ import annotations

import numpy as np

from db1.experts.planning.control_suite_bodies import small_control, tolerance
from db1.experts.planning.objective import OBJECTIVES, Objective, squared
from db1.experts.planning.rollouts import Trajectories


class CartPole(Objective):
    """Poles upright, cart in the middle, little control and speed."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        if self.task_name.endswith("_sparse"):
            centred = tolerance(self._cart(t), -0.25, 0.25)
            return centred * tolerance(self._cosines(t), 0.995, 1.0).prod(axis=-1)
        return self._smooth(t)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        if not self.task_name.endswith("_sparse"):
            return np.zeros(t.ctrl.shape[:2])
        return self._smooth(t) - self._cart(t) ** 2

    def _smooth(self, t: Trajectories) -> np.ndarray:
        upright = (self._cosines(t).mean(axis=-1) + 1.0) / 2.0
        centred = (1.0 + tolerance(self._cart(t), margin=2)) / 2.0
        slow = (1.0 + tolerance(t.qvel[:, 1:, 1:], margin=5).min(axis=-1)) / 2.0
        return upright * small_control(t.ctrl) * slow * centred

    def _cart(self, t: Trajectories) -> np.ndarray:
        return t.qpos[:, 1:, 0]

    def _cosines(self, t: Trajectories) -> np.ndarray:
        return np.cos(np.cumsum(t.qpos[:, 1:, 1:], axis=-1))


@OBJECTIVES.register("dmc/pendulum-swingup")
class Pendulum(Objective):
    """Pole within 8 degrees of upright."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return tolerance(np.cos(t.qpos[:, 1:, 0]), float(np.cos(np.deg2rad(8))), 1.0)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return np.cos(t.qpos[:, 1:, 0]) - 0.01 * squared(t.qvel[:, 1:])


class Acrobot(Objective):
    """Tip at the target, two links above the pivot."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        radius = float(t.model.site("target").size[0])
        margin = 0 if self.task_name.endswith("_sparse") else 1
        away = t.places.site("target") - t.places.site("tip")
        return tolerance(np.linalg.norm(away, axis=-1), 0.0, radius, margin=margin)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        """Energy as it is at rest upright, and the tip near the target."""
        model, links = t.model, ("upper_arm", "lower_arm")
        ids = [model.body(link).id for link in links]
        spins = np.cumsum(t.qvel[:, 1:], axis=-1)
        gravity, energy = -float(model.opt.gravity[2]), 0.0
        for place, link in enumerate(ids):
            centre, mass = t.places.body_centre(link), model.body_mass[link]
            velocity = np.gradient(centre, t.step_seconds, axis=1)
            upright = 2.0 + place + model.body_ipos[link][2]
            energy = energy + mass * gravity * (centre[..., 2] - upright)
            energy = energy + 0.5 * mass * squared(velocity)
            energy = energy + 0.5 * model.body_inertia[link][1] * spins[..., place] ** 2
        away = np.linalg.norm(t.places.site("target") - t.places.site("tip"), axis=-1)
        return -0.05 * np.abs(energy) - 0.05 * away


@OBJECTIVES.register("dmc/ball_in_cup-catch")
class BallInCup(Objective):
    """Ball inside the cup."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        site, ball = t.model.site("target"), float(t.model.geom("ball").size[0])
        room = site.size[[0, 2]] - ball
        return (np.abs(self._away(t)) < room).all(axis=-1).astype(np.float64)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        away = self._away(t)
        beside, below = np.abs(away[..., 0]), np.maximum(0.0, away[..., 1])
        return -beside - 2.0 * below - 0.3 * np.linalg.norm(away, axis=-1)

    def _away(self, t: Trajectories) -> np.ndarray:
        return (t.places.site("target") - t.places.body("ball"))[..., [0, 2]]


@OBJECTIVES.register("dmc/finger-spin")
class FingerSpin(Objective):
    """The spinner turns backwards at 15 rad/s."""

    SPEED = 15.0

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return (t.sensor("hinge_velocity")[..., 0] <= -self.SPEED).astype(np.float64)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        speed = t.sensor("hinge_velocity")[..., 0]
        return np.clip(-speed / self.SPEED, -1.0, 1.6) - 0.3 * _finger_away(t)


class FingerTurn(Objective):
    """The spinner's tip at the target."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return (self._distance(t) <= t.model.site("target").size[0]).astype(np.float64)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        away = np.maximum(0.0, self._distance(t) - 0.5 * t.model.site("target").size[0])
        speed = t.sensor("hinge_velocity")[..., 0]
        return -5.0 * away - 0.5 * _finger_away(t) * (away > 0) - 0.002 * speed**2

    def _distance(self, t: Trajectories) -> np.ndarray:
        return np.linalg.norm((t.sensor("target") - t.sensor("tip"))[..., [0, 2]], axis=-1)


def _finger_away(t: Trajectories) -> np.ndarray:
    """Returns how far the fingertip is from the spinner's middle, (S, T)."""
    return np.linalg.norm(t.sensor("touchtop_pos") - t.sensor("spinner"), axis=-1)


class Reacher(Objective):
    """Finger at the target."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        model = t.model
        radii = float(model.geom("target").size[0] + model.geom("finger").size[0])
        return tolerance(self._distance(t), 0.0, radii)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -5.0 * self._distance(t)

    def _distance(self, t: Trajectories) -> np.ndarray:
        away = t.places.geom("target") - t.places.geom("finger")
        return np.linalg.norm(away[..., :2], axis=-1)


class PointMass(Objective):
    """Mass at the target, little control."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        size = float(t.model.geom("target").size[0])
        near = tolerance(self._distance(t), 0.0, size, margin=size)
        return near * small_control(t.ctrl)

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -3.0 * self._distance(t)

    def _distance(self, t: Trajectories) -> np.ndarray:
        away = t.places.geom("target") - t.places.geom("pointmass")
        return np.linalg.norm(away, axis=-1)


class LinearQuadratic(Objective):
    """Masses on springs near their rest, little force."""

    FORCE_COST = 0.1

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return 1.0 - 0.5 * squared(t.qpos[:, 1:]) - 0.5 * self.FORCE_COST * squared(t.ctrl)


for _machine, _tasks in {
    CartPole: (
        "cartpole-balance cartpole-balance_sparse cartpole-swingup cartpole-swingup_sparse "
        "cartpole-two_poles cartpole-three_poles"
    ),
    Acrobot: "acrobot-swingup acrobot-swingup_sparse",
    FingerTurn: "finger-turn_easy finger-turn_hard",
    Reacher: "reacher-easy reacher-hard",
    PointMass: "point_mass-easy point_mass-hard",
    LinearQuadratic: "lqr-lqr_2_1 lqr-lqr_6_2",
}.items():
    for _task in _tasks.split():
        OBJECTIVES.register(f"dmc/{_task}")(_machine)
