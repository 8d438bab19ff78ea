"""Controllers of the Fetch arm: functions of the observation only.

observation[0:3]    gripper (m)            [9:11]   opening of each finger (m)
           [3:6]    thing (m)
           [6:9]    thing from the gripper (m)
action     the gripper's way of one step in 5 cm, and the fingers: 1 opens, -1 closes
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv

GAIN = 20.0
"""Actions per metre that the gripper is off its place."""
BEHIND = 0.065
"""Metres from the thing's centre at which a push begins."""
_UP = np.array([0.0, 0.0, 1.0])


class FetchController:
    """One of the Fetch tasks' controllers.

    Args:
        task_name: Such as `FetchPushDense-v4`.
    """

    def __init__(self, task_name: str) -> None:
        name = task_name.split("-")[0].removeprefix("Fetch").removesuffix("Dense")
        self._control = CONTROLLERS[name]

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controllers have no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (4,)."""
        state = observation["observation"].astype(np.float64)
        goal = observation["desired_goal"].astype(np.float64)
        return np.clip(self._control(state, goal), -1.0, 1.0).astype(np.float32)


def reach(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Moves the gripper straight to the goal; an action (4,)."""
    return _move(goal - state[:3], fingers=0.0)


def pick_and_place(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Reaches down round the thing, closes the fingers, carries it to the goal; an action (4,)."""
    to_thing, opening = state[6:9], state[9:11].sum()
    aside = np.linalg.norm(to_thing[:2])
    if aside > 0.02 or abs(to_thing[2]) > 0.015:
        # Comes from above: the height to keep falls with the distance to the thing's axis.
        height = min(0.1, max(0.0, 4.0 * (aside - 0.01)))
        return _move(to_thing + height * _UP, fingers=1.0)
    if opening > 0.053:
        return _move(to_thing, fingers=-1.0)
    return _move(goal - state[3:6], fingers=-1.0)


def push(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Goes behind the thing, seen from the goal, and pushes it there; an action (4,)."""
    way = goal[:2] - state[3:5]
    distance = np.linalg.norm(way)
    direction = way / max(distance, 1e-6)
    if distance < 0.015:
        return np.zeros(4)
    from_thing = -state[6:9]
    along = from_thing[:2] @ direction
    aside = from_thing[:2] - along * direction
    is_low = from_thing[2] < 0.03
    if along < -0.02 and np.linalg.norm(aside) < (0.02 if is_low else 0.01) and is_low:
        speed = min(1.0, 6.0 * distance + 0.1)
        return np.array([*(speed * direction - GAIN * aside), -GAIN * from_thing[2], 0.0])
    return _go_behind(from_thing, direction)


def _go_behind(from_thing: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Moves the gripper over the thing to the side that is turned away from the goal."""
    to_place = -BEHIND * direction - from_thing[:2]
    off = np.linalg.norm(to_place)
    clear = np.linalg.norm(from_thing[:2]) > 0.06 and off < 0.03
    height = 0.0 if clear else 0.09
    if not clear and from_thing[2] < 0.06 and np.linalg.norm(from_thing[:2]) < 0.1:
        to_place = np.zeros(2)  # up first
    return _move(np.array([*to_place, height - from_thing[2]]), fingers=0.0)


def _move(way: np.ndarray, fingers: float) -> np.ndarray:
    return np.array([*np.clip(GAIN * way, -1.0, 1.0), fingers])


CONTROLLERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Reach": reach,
    "PickAndPlace": pick_and_place,
    "Push": push,
}

EXPERTS.register("robotics_fetch")(FetchController)
