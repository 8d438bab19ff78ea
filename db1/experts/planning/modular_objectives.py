"""Rewards of the bodies of modular locomotion over many trajectories."""

from __future__ import annotations

import numpy as np

from db1.experts.planning.objective import OBJECTIVES, Objective, between, squared
from db1.experts.planning.rollouts import Trajectories
from db1.suites.modular_rl import family_of

LARGEST_ANGLE = 1.0


class ModularBody(Objective):
    """Forward speed minus torques, and 1 a step for bodies that can fall."""

    fall_cost = 100.0
    LEAN_COST, CROUCH_COST, CROUCH = 2.0, 10.0, 0.3
    HASTE_COST, HASTE, HOPPER_HASTE = 2.0, 3.5, 2.0

    def __init__(self, task_name: str) -> None:
        super().__init__(task_name)
        self._family = family_of(task_name)

    def reward(self, t: Trajectories) -> np.ndarray:  # (S, T)
        cost = self._family.control_cost * squared(t.ctrl)
        return self._family.alive_reward + t.forward_speed - cost

    def hint(self, t: Trajectories) -> np.ndarray:  # (S, T)
        """Leaning, crouching and haste are what falls begin with; no cheetah runs on its back."""
        height, angle = t.qpos[:, 1:, 1], t.qpos[:, 1:, 2]
        if self._family.heights is None:
            return -self.LEAN_COST * (1.0 - np.cos(angle))
        crouch = np.maximum(0.0, self._family.heights[0] + self.CROUCH - height)
        worth = -self.LEAN_COST * angle**2 - self.CROUCH_COST * crouch
        if not self.task_name.startswith("hopper"):
            return worth - self.HASTE_COST * np.maximum(0.0, t.forward_speed - self.HASTE)
        haste = np.maximum(0.0, t.forward_speed - self.HOPPER_HASTE)
        return worth - self.HASTE_COST * haste - squared(t.qpos[:, 1:, 3:5])

    def ended(self, t: Trajectories) -> np.ndarray:  # bool (S, T)
        if self._family.heights is None:
            return super().ended(t)
        height, angle = t.qpos[:, 1:, 1], t.qpos[:, 1:, 2]
        state = np.concatenate([t.qpos[:, 1:, 2:], t.qvel[:, 1:]], axis=-1)
        sound = (np.abs(state) < self._family.largest_state).all(axis=-1)
        up = between(height, *self._family.heights)
        return ~(sound & up & between(angle, -LARGEST_ANGLE, LARGEST_ANGLE))


for _kind in ("cheetah", "hopper", "humanoid", "walker"):
    OBJECTIVES.register(f"modular_rl/{_kind}")(ModularBody)
