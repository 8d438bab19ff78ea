"""Scripts for ViZDoom's scenarios; they look at the engine's list of things, through walls too.

A script is a function of the current state and of whether the last action turned, for a second
step of turning turns further. It turns to what it wants to hit or reach, and shoots or walks when
it is lined up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv

MONSTERS = frozenset({"Cacodemon", "Demon", "MarineChainsawVzd"})
"""Those alive; the engine renames the dead."""
HALF_WIDTH = 16.0
"""Half the width (map units) within which a shot at a monster counts as lined up."""
TURN = 7.03
"""Degrees that the first step of turning turns; each further one turns twice as much."""
IDLE = "IDLE"


class Scene:
    """Positions of everything in the scene, in map units and degrees.

    Args:
        simulator: ViZDoom's gymnasium environment, with the list of objects enabled.
        is_turning: Whether the last action turned.
    """

    def __init__(self, simulator: Any, is_turning: bool) -> None:
        self.is_turning = is_turning
        things = simulator.game.get_state().objects
        self.things = [thing for thing in things if thing.name != "DoomPlayer"]
        player = next(thing for thing in things if thing.name == "DoomPlayer")
        self.place = np.array([player.position_x, player.position_y])
        self.velocity = np.array([player.velocity_x, player.velocity_y])
        self.angle = float(player.angle)

    def places(self, names: frozenset[str]) -> np.ndarray:
        """Returns (N, 2): where the things of these names are."""
        found = [(t.position_x, t.position_y) for t in self.things if t.name in names]
        return np.array(found, np.float64).reshape(-1, 2)

    def off(self, place: np.ndarray) -> float:
        """Returns the degrees to turn left to face `place`, in [-180, 180)."""
        way = place - self.place
        wanted = np.degrees(np.arctan2(way[1], way[0]))
        return float((wanted - self.angle + 180.0) % 360.0 - 180.0)

    def distance(self, places: np.ndarray) -> np.ndarray:
        """Returns (N,): the distance of each place (N, 2)."""
        return np.linalg.norm(places - self.place, axis=-1)


class VizdoomScript:
    """One scenario's script.

    Args:
        task_name: The scenario.
    """

    def __init__(self, task_name: str) -> None:
        self._script = SCRIPTS[task_name]

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: scripts have no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the action that presses the script's button."""
        simulator = env.unwrapped.simulator
        names = [button.name for button in simulator.game.get_available_buttons()]
        # One button at most is pressed in each action.
        buttons = [names[np.argmax(row)] if any(row) else IDLE for row in simulator.button_map]
        last = IDLE if env.last_action is None else buttons[env.last_action]
        scene = Scene(simulator, is_turning=last.startswith("TURN"))
        return buttons.index(self._script(scene))


def basic(scene: Scene) -> str:
    """Walks sideways until the monster is straight ahead, then shoots."""
    side = scene.places(MONSTERS)[0, 1] - scene.place[1] - 3.0 * scene.velocity[1]
    if abs(side) < HALF_WIDTH:
        return "ATTACK"
    return "MOVE_LEFT" if side > 0 else "MOVE_RIGHT"


def defend(scene: Scene) -> str:
    """Shoots at the monster that is soonest dealt with: near, and little to turn."""
    places = scene.places(MONSTERS)
    if not len(places):
        return IDLE
    distances = scene.distance(places)
    costs = [d / 100.0 + abs(scene.off(p)) / 15.0 for d, p in zip(distances, places, strict=True)]
    return _shoot_at(scene, places[int(np.argmin(costs))])


def gather_health(scene: Scene) -> str:
    """Walks to the medikit that is soonest reached."""
    places = scene.places(frozenset({"Medikit"}))
    if not len(places):
        return "MOVE_FORWARD"
    distances = scene.distance(places)
    costs = [d / 40.0 + abs(scene.off(p)) / 10.0 for d, p in zip(distances, places, strict=True)]
    return _walk_to(scene, places[int(np.argmin(costs))])


def _shoot_at(scene: Scene, place: np.ndarray) -> str:
    """Turns until a shot would hit; waits where no turn would bring it nearer to that."""
    off = scene.off(place)
    if abs(off) < np.degrees(np.arctan2(HALF_WIDTH, scene.distance(place[None])[0])):
        return "ATTACK"
    return IDLE if abs(off) < 0.5 * TURN else _turn(scene, off)


def _walk_to(scene: Scene, place: np.ndarray) -> str:
    off = scene.off(place)
    width = np.degrees(np.arctan2(20.0, scene.distance(place[None])[0]))
    return "MOVE_FORWARD" if abs(off) < max(width, TURN) else _turn(scene, off)


def _turn(scene: Scene, off: float) -> str:
    """Turns; stops first where going on would turn too far."""
    if scene.is_turning and abs(off) < 1.5 * TURN:
        return IDLE
    return "TURN_LEFT" if off > 0 else "TURN_RIGHT"


SCRIPTS: dict[str, Callable[[Scene], str]] = {
    "Basic": basic,
    "DefendCenter": defend,
    "HealthGathering": gather_health,
}

EXPERTS.register("vizdoom_script")(VizdoomScript)
