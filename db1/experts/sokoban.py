"""A Sokoban solver: A* over pushes.

A state is where the boxes stand and which part of the room the player can reach. A push costs its
own step and the walk to it. The estimate of what is left is the cheapest assignment of boxes to
targets, each pair counted with the pushes that it takes in the empty room. Positions that cannot
be solved are not entered: a box on a cell without way to any target, or in a full 2x2 block.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from db1.errors import DataError
from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv
from db1.suites.sokoban import SokobanEnv
from db1.suites.sokoban_levels import STEPS

MAX_STATES = 60_000
"""States that the search opens at most, about 30 s; a limit in seconds would not repeat."""
_FAR = 10_000

State = tuple[tuple[int, ...], int]
"""Sorted cells of the boxes, and a cell of the player; cells are numbered row by row."""


class SokobanExpert:
    """Solves the level at its start, and again where noise has left the plan.

    Args:
        task_name: Unused; the environment knows its level.
    """

    def __init__(self, task_name: str) -> None:
        self._plan: list[int] = []
        self._chosen: int | None = None

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Solves the level."""
        self._plan, self._chosen = solve(_sokoban(env)), None

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the step or push; raises DataError where no solution is found any more."""
        if env.last_action != self._chosen:
            self._plan = solve(_sokoban(env))
        self._chosen = self._plan.pop(0)
        return self._chosen


def solve(env: SokobanEnv, max_states: int = MAX_STATES) -> list[int]:
    """Returns actions (1 to 4: up, down, left, right) that solve the level from where it stands.

    Raises:
        DataError: When no solution is found within `max_states` states.
    """
    plan = _Search(env.level.walls, env.level.targets).run(*_state(env), max_states)
    if plan is None:
        raise DataError(
            f"{env.task_id} step {env.num_steps}: no solution within {max_states} states"
        )
    return plan


@dataclass(frozen=True)
class _Node:
    """A position right after a push.

    Args:
        boxes: Sorted cells of the boxes.
        player: Cell of the player.
        steps: Steps from the start.
        parent: The position before, None at the start.
        direction: Of the push that led here.
    """

    boxes: tuple[int, ...]
    player: int
    steps: int
    parent: _Node | None = None
    direction: int = 0


class _Search:
    """A* in one room.

    Args:
        walls: bool (H, W), closed all around.
        targets: bool (H, W).
    """

    def __init__(self, walls: np.ndarray, targets: np.ndarray) -> None:
        width = walls.shape[1]
        self._offsets = [dr * width + dc for dr, dc in STEPS]
        self._is_wall = walls.ravel().tolist()
        self._targets = frozenset(np.flatnonzero(targets).tolist())
        self._pushes = [self._pushes_to(target) for target in sorted(self._targets)]
        self._squares = [
            (-width - 1, -width, -1),
            (-width, -width + 1, 1),
            (-1, width - 1, width),
            (1, width, width + 1),
        ]
        self._estimate = cache(self._assignment)

    def run(self, boxes: tuple[int, ...], player: int, max_states: int) -> list[int] | None:
        """Returns the actions that solve the room; None where none are found."""
        start = _Node(boxes, player, 0)
        queue = [(0, 0, start)]
        opened: set[State] = set()
        number = 0
        while queue and len(opened) < max_states:
            node = heapq.heappop(queue)[2]
            if self._targets.issuperset(node.boxes):
                return self._actions(node)
            walks = self._walks(node.boxes, node.player)
            region = (node.boxes, min(walks))
            if region in opened:
                continue
            opened.add(region)
            for child in self._children(node, walks):
                number += 1
                total = child.steps + self._estimate(child.boxes)
                heapq.heappush(queue, (total, -number, child))
        return None

    def _children(self, node: _Node, walks: dict[int, int]) -> Iterator[_Node]:
        """Positions after one push that may still be solved."""
        occupied = set(node.boxes)
        for box in node.boxes:
            for direction, offset in enumerate(self._offsets):
                goal = box + offset
                if box - offset not in walks or self._is_wall[goal] or goal in occupied:
                    continue
                boxes = tuple(sorted(goal if other == box else other for other in node.boxes))
                if self._estimate(boxes) < _FAR and not self._is_stuck(boxes, goal):
                    steps = node.steps + walks[box - offset] + 1
                    yield _Node(boxes, box, steps, node, direction)

    def _walks(self, boxes: tuple[int, ...], player: int) -> dict[int, int]:
        """Steps to each cell that the player can reach without a push."""
        steps = {player: 0}
        queue = deque([player])
        while queue:
            cell = queue.popleft()
            for offset in self._offsets:
                following = cell + offset
                if following in steps or self._is_wall[following] or following in boxes:
                    continue
                steps[following] = steps[cell] + 1
                queue.append(following)
        return steps

    def _pushes_to(self, target: int) -> list[int]:
        """Pushes that a box needs from each cell to `target` in the empty room."""
        pushes = [_FAR] * len(self._is_wall)
        pushes[target] = 0
        queue = deque([target])
        while queue:
            cell = queue.popleft()
            for offset in self._offsets:
                box, player = cell - offset, cell - 2 * offset
                if self._is_wall[box] or self._is_wall[player] or pushes[box] < _FAR:
                    continue
                pushes[box] = pushes[cell] + 1
                queue.append(box)
        return pushes

    def _assignment(self, boxes: tuple[int, ...]) -> int:
        """Pushes of the cheapest assignment of boxes to targets; at least _FAR where none fits."""
        best = {0: 0}
        for box in boxes:
            grown: dict[int, int] = {}
            for taken, cost in best.items():
                for number, pushes in enumerate(self._pushes):
                    if not taken & 1 << number:
                        key, total = taken | 1 << number, cost + pushes[box]
                        grown[key] = min(total, grown.get(key, total))
            best = grown
        return min(best.values())

    def _is_stuck(self, boxes: tuple[int, ...], moved: int) -> bool:
        """True when the box on cell `moved` is in a full 2x2 block with a box off its target."""
        for square in self._squares:
            cells = [moved, *(moved + offset for offset in square)]
            if all(self._is_wall[cell] or cell in boxes for cell in cells) and any(
                not self._is_wall[cell] and cell not in self._targets for cell in cells
            ):
                return True
        return False

    def _actions(self, node: _Node) -> list[int]:
        """The walks and pushes that lead to `node`."""
        actions: list[int] = []
        while node.parent is not None:
            behind = node.player - self._offsets[node.direction]
            walk = self._walk(node.parent.boxes, node.parent.player, behind)
            actions = [*walk, node.direction + 1, *actions]
            node = node.parent
        return actions

    def _walk(self, boxes: tuple[int, ...], start: int, end: int) -> list[int]:
        """Actions of a shortest walk."""
        steps = self._walks(boxes, end)
        actions = []
        while start != end:
            direction = next(
                d
                for d, offset in enumerate(self._offsets)
                if steps.get(start + offset, _FAR) == steps[start] - 1
            )
            actions.append(direction + 1)
            start += self._offsets[direction]
        return actions


def _state(env: SokobanEnv) -> State:
    width = env.boxes.shape[1]
    boxes = tuple(np.flatnonzero(env.boxes).tolist())
    return boxes, env.player[0] * width + env.player[1]


def _sokoban(env: TaskEnv) -> SokobanEnv:
    inner = env.unwrapped
    if not isinstance(inner, SokobanEnv):
        raise DataError(f"the expert of sokoban got {type(inner).__name__}, expected a SokobanEnv")
    return inner


EXPERTS.register("sokoban_solver")(SokobanExpert)
