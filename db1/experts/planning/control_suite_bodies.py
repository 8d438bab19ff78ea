"""Rewards of the Control Suite's bodies that stand, walk, hop, run and swim.

Source: dm_control 1.0.28, `get_reward` of each domain; the hints are db1's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from db1.experts.planning.objective import OBJECTIVES, Objective
from db1.experts.planning.rollouts import Trajectories


def tolerance(values: np.ndarray, low: float = 0.0, high: float = 0.0, **shape: Any) -> np.ndarray:
    """Returns dm_control's 1 within the bounds, falling off beside them: (...,) -> (...,)."""
    from dm_control.utils.rewards import tolerance as of_dm_control

    return of_dm_control(values, bounds=(low, high), **shape)


def small_control(ctrl: np.ndarray) -> np.ndarray:
    """Returns 1 for no control, down to 0.8 for full control: dm_control's factor, (S, T)."""
    quiet = tolerance(ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean(axis=-1)
    return (quiet + 4.0) / 5.0


@OBJECTIVES.register("dmc/cheetah-run")
class Cheetah(Objective):
    """Forward speed up to 10 m/s."""

    SPEED = 10.0

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        speed = t.sensor("torso_subtreelinvel")[..., 0]
        return tolerance(
            speed, self.SPEED, np.inf, margin=self.SPEED, value_at_margin=0, sigmoid="linear"
        )

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -0.1 * (1.0 - np.cos(t.qpos[:, 1:, 2]))


class Walker(Objective):
    """Torso high and upright, moving at a speed."""

    HEIGHT = 1.2
    SPEEDS = {"walker-stand": 0.0, "walker-walk": 1.0, "walker-run": 8.0}  # noqa: RUF012

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        height = t.places.body("torso")[..., 2]
        standing = tolerance(height, self.HEIGHT, np.inf, margin=self.HEIGHT / 2)
        upright = (1.0 + t.places.body_rotation("torso")[..., 2, 2]) / 2.0
        stand = (3.0 * standing + upright) / 4.0
        speed = self.SPEEDS[self.task_name]
        if speed == 0.0:
            return stand
        move = tolerance(
            t.sensor("torso_subtreelinvel")[..., 0],
            speed,
            np.inf,
            margin=speed / 2,
            value_at_margin=0.5,
            sigmoid="linear",
        )
        return stand * (5.0 * move + 1.0) / 6.0

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        speed = self.SPEEDS[self.task_name]
        forward = t.sensor("torso_subtreelinvel")[..., 0]
        lag = np.maximum(0.0, speed - forward) / max(speed, 1.0)
        low = np.maximum(0.0, self.HEIGHT - t.places.body("torso")[..., 2])
        upright = t.places.body_rotation("torso")[..., 2, 2]
        return -0.3 * lag - 0.5 * low - 0.3 * (1.0 - upright)


class Hopper(Objective):
    """Torso well above the foot; hopping forward or still."""

    HEIGHT, SPEED = 0.6, 2.0

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        standing = tolerance(self._height(t), self.HEIGHT, 2.0)
        if self.task_name == "hopper-stand":
            return standing * small_control(t.ctrl)
        return standing * tolerance(
            t.sensor("torso_subtreelinvel")[..., 0],
            self.SPEED,
            np.inf,
            margin=self.SPEED / 2,
            value_at_margin=0.5,
            sigmoid="linear",
        )

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        low = np.maximum(0.0, 1.2 * self.HEIGHT - self._height(t))
        upright = t.places.body_rotation("torso")[..., 2, 2]
        speed = t.sensor("torso_subtreelinvel")[..., 0]
        goal = 0.0 if self.task_name == "hopper-stand" else self.SPEED
        lag = np.abs(speed) if goal == 0.0 else np.maximum(0.0, goal - speed)
        return -3.0 * low - 0.2 * (1.0 - upright) - 0.15 * lag

    def _height(self, t: Trajectories) -> np.ndarray:
        torso, foot = (t.model.body(name).id for name in ("torso", "foot"))
        return (t.places.body_centre(torso) - t.places.body_centre(foot))[..., 2]


class Quadruped(Objective):
    """Torso upright and moving along its own axis at a speed."""

    SPEEDS = {"quadruped-walk": 0.5, "quadruped-run": 5.0}  # noqa: RUF012

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        speed = self.SPEEDS[self.task_name]
        move = tolerance(
            t.sensor("velocimeter")[..., 0],
            speed,
            np.inf,
            margin=speed,
            value_at_margin=0.5,
            sigmoid="linear",
        )
        upright = t.places.body_rotation("torso")[..., 2, 2]
        lying = tolerance(upright, 1.0, np.inf, sigmoid="linear", margin=2.0, value_at_margin=0)
        return lying * move

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return 0.5 * t.places.body_rotation("torso")[..., 2, 2]


class Humanoid(Objective):
    """Head high, torso upright, little control; still or at a speed."""

    HEIGHT = 1.4
    SPEEDS = {"humanoid-stand": 0.0, "humanoid-walk": 1.0, "humanoid-run": 10.0}  # noqa: RUF012

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        head = t.places.body("head")[..., 2]
        standing = tolerance(head, self.HEIGHT, np.inf, margin=self.HEIGHT / 4)
        upright = t.places.body_rotation("torso")[..., 2, 2]
        straight = tolerance(upright, 0.9, np.inf, sigmoid="linear", margin=1.9, value_at_margin=0)
        return small_control(t.ctrl) * standing * straight * self._move(t)

    def _move(self, t: Trajectories) -> np.ndarray:
        speeds = t.sensor("torso_subtreelinvel")[..., :2]
        goal = self.SPEEDS[self.task_name]
        if goal == 0.0:
            return tolerance(speeds, margin=2).mean(axis=-1)
        speed = np.linalg.norm(speeds, axis=-1)
        move = tolerance(speed, goal, np.inf, margin=goal, value_at_margin=0, sigmoid="linear")
        return (5.0 * move + 1.0) / 6.0

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        low = np.maximum(0.0, self.HEIGHT - t.places.body("head")[..., 2])
        return -low + 0.2 * t.places.body_rotation("torso")[..., 2, 2]


@OBJECTIVES.register("dmc/fish-upright")
class FishUpright(Objective):
    """Torso upright."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return tolerance(t.places.body_rotation("torso")[..., 2, 2], 1.0, 1.0, margin=1)


@OBJECTIVES.register("dmc/fish-swim")
class FishSwim(Objective):
    """Mouth at the target, torso upright."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        model = t.model
        radii = float(model.geom("mouth").size[0] + model.geom("target").size[0])
        there = tolerance(self._distance(t), 0.0, radii, margin=2 * radii)
        upright = 0.5 * (t.places.body_rotation("torso")[..., 2, 2] + 1.0)
        return (7.0 * there + upright) / 8.0

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -2.0 * self._distance(t)

    def _distance(self, t: Trajectories) -> np.ndarray:
        return np.linalg.norm(t.places.geom("mouth") - t.places.geom("target"), axis=-1)


class Swimmer(Objective):
    """Nose at the target."""

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        size = float(t.model.geom("target").size[0])
        return tolerance(self._distance(t), 0.0, size, margin=5 * size, sigmoid="long_tail")

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        return -self._distance(t)

    def _distance(self, t: Trajectories) -> np.ndarray:
        return np.linalg.norm(t.sensor("nose_pos") - t.sensor("target_pos"), axis=-1)


for _body, _tasks in {
    Walker: Walker.SPEEDS,
    Hopper: ("hopper-stand", "hopper-hop"),
    Quadruped: Quadruped.SPEEDS,
    Humanoid: Humanoid.SPEEDS,
    Swimmer: ("swimmer-swimmer6", "swimmer-swimmer15"),
}.items():
    for _task in _tasks:
        OBJECTIVES.register(f"dmc/{_task}")(_body)
