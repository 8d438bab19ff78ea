"""A controller of PointMaze: the shortest way through the maze's cells, and a braked approach."""

from __future__ import annotations

from collections import deque

import numpy as np

from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv

CLEARANCE = 0.2
"""Metres that a straight line keeps from walls; the ball's radius is 0.1."""
_LOOKS = 0.05
"""Metres between the points at which a line is looked at."""

Cell = tuple[int, int]


class PointMazeController:
    """A function of the observation and of the maze, which is the same in all episodes.

    Args:
        task_name: Unused; the environment knows its maze.
    """

    def __init__(self, task_name: str) -> None:
        self._walls = np.ones((1, 1), bool)

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Reads the maze."""
        rows = env.unwrapped.simulator.maze.maze_map
        self._walls = np.array([[cell == 1 for cell in row] for row in rows])

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (2,): the force."""
        position, velocity = np.split(observation["observation"].astype(np.float64), 2)
        goal = observation["desired_goal"].astype(np.float64)
        way = self._aim(position, goal) - position
        force = 10.0 * way - 2.0 * velocity
        return np.clip(force, -1.0, 1.0).astype(np.float32)

    def _aim(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The furthest point of the way that the ball can roll to in a straight line."""
        cells = self._way(self._cell(position), self._cell(goal))
        points = [*(self._centre(cell) for cell in cells), goal]
        for point in reversed(points):
            if self._is_clear(position, point):
                return point
        return points[0]

    def _way(self, start: Cell, end: Cell) -> list[Cell]:
        """Cells of a shortest way, both ends included."""
        following: dict[Cell, Cell] = {end: end}
        queue = deque([end])
        while queue and start not in following:
            row, column = queue.popleft()
            for cell in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if cell not in following and not self._walls[cell]:
                    following[cell] = (row, column)
                    queue.append(cell)
        way = [start]
        while way[-1] != end:
            way.append(following[way[-1]])
        return way

    def _is_clear(self, start: np.ndarray, end: np.ndarray) -> bool:
        """Tells whether the line keeps clear of walls."""
        count = max(2, int(np.linalg.norm(end - start) / _LOOKS))
        line = start + np.linspace(0.0, 1.0, count)[1:, None] * (end - start)
        corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * CLEARANCE
        return not any(self._walls[self._cell(point)] for point in _all(line, corners))

    def _cell(self, point: np.ndarray) -> Cell:
        rows, columns = self._walls.shape
        row = int(np.floor(rows / 2 - point[1]))
        column = int(np.floor(point[0] + columns / 2))
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    def _centre(self, cell: Cell) -> np.ndarray:
        rows, columns = self._walls.shape
        return np.array([cell[1] + 0.5 - columns / 2, rows / 2 - cell[0] - 0.5])


def _all(line: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns (points * 4, 2): each point's corners."""
    return (line[:, None] + corners[None]).reshape(-1, 2)


EXPERTS.register("robotics_point_maze")(PointMazeController)
