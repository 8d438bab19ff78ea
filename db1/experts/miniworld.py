"""Navigators of MiniWorld's tasks; they look at the simulator: its floor plan and its things.

In a pose, a navigator looks at all plans of the form "turn some times, then go some steps", and
takes the first action of the one with the least turns, steps and way that is left. It has no
memory of its own but the ways' lengths, so it goes on from wherever noise has led it. The agent
sees only what is before it, so a learner knows the way only where it can be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.experts.base import EXPERTS
from db1.experts.miniworld_map import DistanceField, FloorPlan
from db1.suites.base import Observation, TaskEnv

LEFT, RIGHT, FORWARD, _, PICKUP = range(5)
SIGHT = 3.0
"""Metres that a plan looks ahead."""
LATER = 1.5
"""Price of a turn at a plan's end, in turns now; at 1, small errors of the way keep it walking."""

Points = np.ndarray
IsDone = Callable[[Points, Points], np.ndarray]
"""Test of success in poses (N, 2), (N, 2): positions and unit vectors; returns bool (N,)."""


class Navigator:
    """Walks to the red box; in Sign to the box that sign and goal name.

    Args:
        task_name: Such as `MazeS3`.
    """

    def __init__(self, task_name: str) -> None:
        self._task = task_name
        self._plan: FloorPlan | None = None
        self._field: DistanceField | None = None
        self._is_done: IsDone = _never

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Measures the ways of the episode's floor plan."""
        simulator = env.unwrapped.simulator
        if self._task == "Sign":
            target = simulator._objects[simulator._goal][simulator._color_index]
            berth = 1.1 * simulator.max_forward_step  # nearer is as good as touched
        else:
            target, berth = simulator.box, 0.0
        forbidden = getattr(simulator, "street", None)
        self._plan = FloorPlan(simulator, ignored=[target], forbidden=forbidden, berth=berth)
        reach = target.radius + self._plan.radius + 1.1 * simulator.max_forward_step
        centre = np.asarray(target.pos)[[0, 2]]

        def is_near(points: Points, ways: Points) -> np.ndarray:
            return np.linalg.norm(points - centre, axis=-1) < reach - 0.01

        self._is_done = is_near
        points = self._plan.grid()[0]
        self._field = DistanceField(self._plan, is_near(points, points))

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the next action."""
        assert self._plan is not None and self._field is not None
        return _best_action(env, self._plan, self._field, self._is_done)


class Collector:
    """Picks up the nearest thing, again and again.

    Args:
        task_name: Unused; all things in these tasks are wanted.
    """

    def __init__(self, task_name: str) -> None:
        self._things: list[tuple[int, float, float]] = []
        self._plan: FloorPlan | None = None
        self._field: DistanceField | None = None

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Forgets the last episode's things."""
        self._things = []

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the next action; `pick up` where that gets hold of a thing."""
        simulator = env.unwrapped.simulator
        wanted = [thing for thing in simulator.entities if thing is not simulator.agent]
        things = [(id(thing), *thing.pos[[0, 2]].tolist()) for thing in wanted]
        if things != self._things:
            self._things = things
            self._plan = FloorPlan(simulator)
            points = self._plan.grid()[0]
            self._field = DistanceField(self._plan, _can_reach(self._plan, points, wanted))
        plan, field = self._plan, self._field
        assert plan is not None and field is not None

        def gets_hold(points: Points, ways: Points) -> np.ndarray:
            return _gets_hold(plan, points, ways, wanted)

        position, way = _pose(simulator)
        if gets_hold(position[None], way[None])[0]:
            return PICKUP
        return _best_action(env, plan, field, gets_hold)


def _best_action(
    env: TaskEnv,
    plan: FloorPlan,
    field: DistanceField,
    is_done: IsDone,
) -> int:
    """The first action of the cheapest plan; DataError where every step is blocked."""
    simulator = env.unwrapped.simulator
    position, _ = _pose(simulator)
    step = simulator.params.sample(None, "forward_step")
    turn = np.radians(simulator.params.sample(None, "turn_step"))
    half = round(np.pi / turn)
    turns = np.arange(-half + 1, half + 1)
    turns = turns[np.argsort(np.abs(turns), kind="stable")]
    angles = simulator.agent.dir + turns * turn
    ways = np.stack([np.cos(angles), -np.sin(angles)], axis=-1)
    steps = np.arange(0, round(SIGHT / step) + 1)
    points = position + (steps * step)[None, :, None] * ways[:, None]  # (turns, steps + 1, 2)
    flat = points.reshape(-1, 2)
    shape = points.shape[:2]
    free = plan.is_free(flat, margin=1e-6).reshape(shape)
    free[:, 0] = True  # the agent stands there
    free = np.logical_and.accumulate(free, axis=1)
    facing = np.repeat(ways, len(steps), axis=0)
    done = is_done(flat, facing).reshape(shape) & free
    length, way = field(flat)
    # At the end of a plan, the agent still has to turn to where the rest of the way begins.
    aligned = np.clip((way * facing).sum(-1), -1.0, 1.0)
    later = np.where(way.any(axis=1), np.arccos(aligned) / turn, 0.0)
    rest = LATER * later + length / step
    left = np.where(done, 0.0, np.maximum(rest.reshape(shape), 1.0))
    cost = np.abs(turns)[:, None] + steps + left
    cost[~free] = np.inf
    cost[:, 0][~done[:, 0]] = np.inf
    row, column = np.unravel_index(int(cost.argmin()), shape)
    if not np.isfinite(cost[row, column]):
        raise DataError(f"{env.task_id} step {env.num_steps}: no way to the goal from {position}")
    if turns[row] == 0:
        return FORWARD
    return LEFT if turns[row] > 0 else RIGHT


def _pose(simulator: Any) -> tuple[np.ndarray, np.ndarray]:
    """The agent's place and the unit vector it faces, each (2,)."""
    angle = simulator.agent.dir
    return simulator.agent.pos[[0, 2]], np.array([np.cos(angle), -np.sin(angle)])


def _gets_hold(plan: FloorPlan, points: Points, ways: Points, wanted: list[Any]) -> np.ndarray:
    """Tells whether `pick up` gets hold of a thing in poses (N, 2), (N, 2); bool (N,)."""
    hands = points + 1.5 * plan.radius * ways
    reach = 1.2 * plan.radius
    centres = np.array([thing.pos[[0, 2]] for thing in wanted])
    radii = np.array([thing.radius for thing in wanted])
    apart = np.linalg.norm(hands[:, None] - centres, axis=-1) - radii
    return (apart < reach - 0.01).any(axis=1) & (plan.wall_distance(hands) > reach)


def _can_reach(plan: FloorPlan, points: Points, wanted: list[Any]) -> np.ndarray:
    """Tells whether a thing can be picked up from points (N, 2), facing the nearest; bool (N,)."""
    centres = np.array([thing.pos[[0, 2]] for thing in wanted])
    nearest = centres[np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)]
    ways = nearest - points
    ways /= np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-6)
    return _gets_hold(plan, points, ways, wanted)


def _never(points: Points, ways: Points) -> np.ndarray:
    return np.zeros(len(points), bool)


EXPERTS.register("miniworld_navigator")(Navigator)
EXPERTS.register("miniworld_collector")(Collector)
