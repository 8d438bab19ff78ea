"""Plans in minigrid's grid: walks, opens doors, fetches keys and moves what lies in the way.

A pose is (column, row, direction). The planner looks for the cheapest path of poses to a goal
through everything that can be opened or moved, and follows it to the first thing that needs
another errand first:

    locked door, no key in hand   -> fetch its key, out of a box where need be
    ball, box or key in the way   -> pick it up and put it where it blocks nothing
    hands full                    -> put down what is carried

A leg is the list of actions up to that errand's end or to the goal; then the next leg is planned.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from db1.errors import DataError

LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Column and row of one step in each direction: right, down, left, up."""
_RING = ((-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0))
_MOVING_COST = 10
"""Steps that moving a thing out of the way is reckoned with."""
_KEY_COST = 100
"""Steps that fetching a key is reckoned with."""

Cell = tuple[int, int]
Pose = tuple[int, int, int]


class NoWay(DataError):
    """The goal cannot be reached from here."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Cell to reach, and what to do there.

    Args:
        accept: Whether a pose is one of the goal's.
        action: What to do in that pose; None where being there is enough.
        needs_free_hands: Whether nothing may be carried in that pose.
        may_move: Whether things in the way may be moved.
    """

    accept: Callable[[Pose], bool]
    action: Callable[[Pose], int] | None = None
    needs_free_hands: bool = False
    may_move: bool = True


def front(pose: Pose) -> Cell:
    """Returns the cell before a pose."""
    column, row, direction = pose
    return column + STEPS[direction][0], row + STEPS[direction][1]


def stand_on(cells: set[Cell]) -> Goal:
    """Returns the goal to enter one of `cells`."""
    return Goal(accept=lambda pose: pose[:2] in cells)


def do_before(
    cells: set[Cell], action: int, *, needs_free_hands: bool = False, may_move: bool = True
) -> Goal:
    """Returns the goal to face one of `cells` and take `action`."""
    return Goal(
        accept=lambda pose: front(pose) in cells,
        action=lambda pose: action,
        needs_free_hands=needs_free_hands,
        may_move=may_move,
    )


def cells_of(simulator: Any, accept: Callable[[Any], bool]) -> set[Cell]:
    """Returns the cells whose thing `accept` takes."""
    grid = simulator.grid
    return {
        (index % grid.width, index // grid.width)
        for index, thing in enumerate(grid.grid)
        if thing is not None and accept(thing)
    }


class GridPlanner:
    """Plans in the current state of one minigrid environment.

    Args:
        simulator: The environment of minigrid.
        deadly: Cells never to enter, besides lava.
    """

    def __init__(self, simulator: Any, deadly: set[Cell] | None = None) -> None:
        self._grid = simulator.grid
        self._simulator = simulator
        self._deadly = deadly or set()
        column, row = (int(value) for value in simulator.agent_pos)
        self._start: Pose = (column, row, int(simulator.agent_dir))
        self._carried = simulator.carrying

    def leg(self, goal: Goal, banned: frozenset[Cell] = frozenset()) -> list[int]:
        """Returns the actions of the next leg to `goal`, at least one.

        Args:
            goal: Where to get.
            banned: Cells not to go through.

        Raises:
            NoWay: When there is none.
        """
        path = self._path(goal, banned)
        actions: list[int] = []
        for pose, following in pairwise(path):
            cell = following[:2]
            if cell == pose[:2]:
                turned = (following[2] - pose[2]) % 4
                actions.append(RIGHT if turned == 1 else LEFT)
                continue
            thing = self._grid.get(*cell)
            if _is_movable(thing):
                return self._put_down(path) if self._carried else [*actions, PICKUP]
            if thing is not None and thing.type == "door" and not thing.is_open:
                if thing.is_locked:
                    return self._unlock(thing, cell, actions, goal, banned)
                actions.append(TOGGLE)
            actions.append(FORWARD)
        if goal.needs_free_hands and self._carried:
            return self._put_down(path)
        if goal.action is not None:
            actions.append(goal.action(path[-1]))
        return actions

    def _unlock(
        self, door: Any, cell: Cell, actions: list[int], goal: Goal, banned: frozenset[Cell]
    ) -> list[int]:
        """The leg that opens a locked door on the way, or gets its key."""
        if self._opens(door):
            return [*actions, TOGGLE]
        try:
            return self.leg(self._key_of(door), banned | {cell})
        except NoWay:
            return self.leg(goal, banned | {cell})

    def _key_of(self, door: Any) -> Goal:
        """The goal to pick up a key of `door`, or to open a box that holds one."""
        keys = cells_of(self._simulator, lambda thing: _is_key(thing, door.color))
        boxes = cells_of(
            self._simulator,
            lambda thing: thing.type == "box" and _is_key(thing.contains, door.color),
        )
        return Goal(
            accept=lambda pose: front(pose) in keys or front(pose) in boxes,
            action=lambda pose: PICKUP if front(pose) in keys else TOGGLE,
            needs_free_hands=True,
        )

    def _put_down(self, path: list[Pose]) -> list[int]:
        """The leg that puts down what is carried, beside `path` and where it blocks nothing."""
        ahead = {pose[:2] for pose in path} | {front(path[-1])}

        def is_free(pose: Pose) -> bool:
            return self._is_free(front(pose))

        def blocks_nothing(pose: Pose) -> bool:
            return is_free(pose) and front(pose) not in ahead and self._is_spare(front(pose))

        for accept in (blocks_nothing, is_free):
            goal = Goal(accept=accept, action=lambda pose: DROP, may_move=False)
            try:
                return self.leg(goal, self._locked())
            except NoWay:
                continue
        raise NoWay("no place to put down what is carried")

    def _path(self, goal: Goal, banned: frozenset[Cell]) -> list[Pose]:
        """The cheapest poses from the agent's to one of the goal's."""
        costs = {self._start: 0}
        before: dict[Pose, Pose] = {}
        queue = [(0, 0, self._start)]
        number = 0
        while queue:
            cost, _, pose = heapq.heappop(queue)
            if cost > costs[pose]:
                continue
            if goal.accept(pose):
                return _traced(before, pose)
            for following, step in self._moves(pose, goal.may_move, banned):
                total = cost + step
                if total < costs.get(following, total + 1):
                    number += 1
                    costs[following], before[following] = total, pose
                    heapq.heappush(queue, (total, number, following))
        raise NoWay("no way to the goal")

    def _moves(
        self, pose: Pose, may_move: bool, banned: frozenset[Cell]
    ) -> Iterator[tuple[Pose, int]]:
        """Poses one move away, each with its cost."""
        column, row, direction = pose
        yield (column, row, (direction - 1) % 4), 1
        yield (column, row, (direction + 1) % 4), 1
        cell = front(pose)
        cost = None if cell in banned or cell in self._deadly else self._cost(cell, may_move)
        if cost is not None:
            yield (*cell, direction), cost

    def _cost(self, cell: Cell, may_move: bool) -> int | None:
        """Steps to enter a cell; None where that is impossible or deadly."""
        if not (0 <= cell[0] < self._grid.width and 0 <= cell[1] < self._grid.height):
            return None  # doors to the outside stand in GoToDoor's walls
        thing = self._grid.get(*cell)
        if thing is None or thing.type in ("goal", "floor"):
            return 1
        if thing.type == "door":
            if thing.is_open:
                return 1
            return 2 if not thing.is_locked or self._opens(thing) else _KEY_COST
        return _MOVING_COST if may_move and _is_movable(thing) else None

    def _opens(self, door: Any) -> bool:
        return _is_key(self._carried, door.color)

    def _locked(self) -> frozenset[Cell]:
        return frozenset(
            cells_of(self._simulator, lambda thing: thing.type == "door" and thing.is_locked)
        )

    def _is_free(self, cell: Cell) -> bool:
        return self._grid.get(*cell) is None and cell != self._start[:2]

    def _is_spare(self, cell: Cell) -> bool:
        """Tells whether the cells around `cell` stay connected around it when it is full."""
        around = [self._is_open((cell[0] + dc, cell[1] + dr)) for dc, dr in _RING]
        gaps = sum(
            one and not other for one, other in zip(around, [*around[1:], around[0]], strict=True)
        )
        return gaps <= 1

    def _is_open(self, cell: Cell) -> bool:
        thing = self._grid.get(*cell)
        return thing is None or thing.type in ("goal", "floor", "door")


def _traced(before: dict[Pose, Pose], end: Pose) -> list[Pose]:
    path = [end]
    while path[-1] in before:
        path.append(before[path[-1]])
    return path[::-1]


def _is_movable(thing: Any) -> bool:
    return thing is not None and thing.type in ("ball", "box", "key")


def _is_key(thing: Any, colour: str) -> bool:
    return thing is not None and thing.type == "key" and thing.color == colour
