"""Planners for MiniGrid's tasks; they look at the whole grid, of which the agent sees a part.

A learner cannot know from its observations where an unseen key, goal or room lies, so it learns
the way there only where that can be told. In Memory, which is about just that, the planner looks
at the object before it walks to the like one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db1.errors import DataError
from db1.experts.base import EXPERTS
from db1.experts.minigrid_planner import (
    DONE,
    DROP,
    FORWARD,
    LEFT,
    PICKUP,
    STEPS,
    TOGGLE,
    Cell,
    Goal,
    GridPlanner,
    NoWay,
    cells_of,
    do_before,
    front,
    stand_on,
)
from db1.suites.base import Observation, TaskEnv


class MiniGridPlanner:
    """Plans to the next errand's end, and again where noise has left the plan.

    Args:
        task_name: Its first word names the kind of goal.
    """

    def __init__(self, task_name: str) -> None:
        self._goal = GOALS[family(task_name)]
        self._plan: list[int] = []
        self._chosen: int | None = None

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Forgets the last episode's plan."""
        self._plan, self._chosen = [], None

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the next action; DataError where the goal is out of reach."""
        if not self._plan or env.last_action != self._chosen:
            simulator = env.unwrapped.simulator
            self._plan = _planned(env, GridPlanner(simulator), self._goal(simulator))
        self._chosen = self._plan.pop(0)
        return self._chosen


class MemoryPlanner:
    """Walks until it sees the object, and then to the like one at the hallway's end.

    Args:
        task_name: Unused; the environment knows its goal.
    """

    def __init__(self, task_name: str) -> None:
        self._has_seen = False

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Forgets the object."""
        self._has_seen = False

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the next action."""
        simulator = env.unwrapped.simulator
        model = (1, simulator.height // 2 - 1)
        self._has_seen = self._has_seen or simulator.agent_sees(*model)
        if self._has_seen:
            goal = stand_on({simulator.success_pos})
        else:
            goal = do_before({model}, DONE, may_move=False)
        planner = GridPlanner(simulator, deadly={simulator.failure_pos})
        return _planned(env, planner, goal)[0]


class ObstaclePlanner:
    """Goes round the obstacles where they are now; waits, turning, where they block every way.

    An obstacle moves before the agent does, and only a step into a cell that was full before is
    punished: a step into a free cell is safe.

    Args:
        task_name: Unused; all these tasks have one goal square.
    """

    def __init__(self, task_name: str) -> None:
        pass

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the planner has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the next action."""
        simulator = env.unwrapped.simulator
        goal = _goal_square(simulator)
        planner = GridPlanner(simulator)
        try:
            return planner.leg(Goal(accept=goal.accept, may_move=False))[0]
        except NoWay:
            action = planner.leg(goal)[0]
            return action if action <= FORWARD else LEFT


def family(task_name: str) -> str:
    """Returns the first word of a task's name, which names its goal: `KeyCorridorS3R1` too."""
    word = task_name.split("-")[0]
    return next((name for name in (*GOALS, "Memory") if word.startswith(name)), word)


def _planned(env: TaskEnv, planner: GridPlanner, goal: Goal) -> list[int]:
    try:
        return planner.leg(goal)
    except NoWay as error:
        raise DataError(f"{env.task_id} step {env.num_steps}: {error}") from error


def _goal_square(simulator: Any) -> Goal:
    return stand_on(cells_of(simulator, lambda thing: thing.type == "goal"))


def _pick_up_target(simulator: Any) -> Goal:
    target = cells_of(simulator, lambda thing: thing is simulator.obj)
    return do_before(target, PICKUP, needs_free_hands=True)


def _fetch(simulator: Any) -> Goal:
    wanted = (simulator.targetType, simulator.targetColor)
    targets = cells_of(simulator, lambda thing: (thing.type, thing.color) == wanted)
    return do_before(targets, PICKUP, may_move=False)


def _stand_beside(simulator: Any) -> Goal:
    column, row = (int(value) for value in simulator.target_pos)
    beside = {(column + dc, row + dr) for dc, dr in STEPS}
    return Goal(accept=lambda pose: pose[:2] in beside, action=lambda pose: DONE, may_move=False)


def _put_near(simulator: Any) -> Goal:
    if simulator.carrying is None:
        wanted = (simulator.move_type, simulator.moveColor)
        things = cells_of(simulator, lambda thing: (thing.type, thing.color) == wanted)
        return do_before(things, PICKUP, may_move=False)
    column, row = (int(value) for value in simulator.target_pos)

    def is_near(cell: Cell) -> bool:
        free = simulator.grid.get(*cell) is None
        return free and abs(cell[0] - column) <= 1 and abs(cell[1] - row) <= 1

    return Goal(accept=lambda pose: is_near(front(pose)), action=lambda pose: DROP, may_move=False)


def _red_then_blue(simulator: Any) -> Goal:
    door = simulator.blue_door if simulator.red_door.is_open else simulator.red_door
    return do_before(cells_of(simulator, lambda thing: thing is door), TOGGLE)


def _unlock(simulator: Any) -> Goal:
    """To stand in the doorway: the plan ends with the door's opening."""
    return stand_on(cells_of(simulator, lambda thing: thing is simulator.door))


GOALS: dict[str, Callable[[Any], Goal]] = {
    "BlockedUnlockPickup": _pick_up_target,
    "DoorKey": _goal_square,
    "Empty": _goal_square,
    "Fetch": _fetch,
    "FourRooms": _goal_square,
    "GoToDoor": _stand_beside,
    "GoToObject": _stand_beside,
    "KeyCorridor": _pick_up_target,
    "LavaCrossing": _goal_square,
    "LavaGap": _goal_square,
    "LockedRoom": _goal_square,
    "MultiRoom": _goal_square,
    "ObstructedMaze": _pick_up_target,
    "PutNear": _put_near,
    "RedBlueDoors": _red_then_blue,
    "SimpleCrossing": _goal_square,
    "UnlockPickup": _pick_up_target,
    "Unlock": _unlock,
}
"""Goal of each family of tasks, from the simulator's state; longer names before their prefixes."""

EXPERTS.register("minigrid_planner")(MiniGridPlanner)
EXPERTS.register("minigrid_memory_planner")(MemoryPlanner)
EXPERTS.register("minigrid_obstacle_planner")(ObstaclePlanner)
