"""The floor plan of a MiniWorld episode: where the agent can stand, and how far its goal is.

Points are (x, z) in metres; arrays of them have shape (..., 2).
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

CELL = 0.2
"""Metres between the points of the distance field."""
_MARGIN = 0.01
_HOPS = 4
"""Moves between neighbouring cells over which the way's direction is taken."""


class FloorPlan:
    """Walls and things of the current state.

    Args:
        simulator: The environment of miniworld.
        ignored: Things that the agent may run into.
        forbidden: A room not to enter.
        berth: Metres to keep from things, besides both radii.
    """

    def __init__(
        self,
        simulator: Any,
        *,
        ignored: list[Any] | None = None,
        forbidden: Any = None,
        berth: float = 0.0,
    ) -> None:
        self._simulator = simulator
        self._segments = np.asarray(simulator.wall_segs, np.float64)[:, :, [0, 2]]
        agent = simulator.agent
        self.radius = float(agent.radius)
        kept = [*(ignored or []), agent]
        things = [thing for thing in simulator.entities if not any(thing is k for k in kept)]
        self._centres = np.array([np.asarray(thing.pos)[[0, 2]] for thing in things]).reshape(-1, 2)
        self._radii = np.array([thing.radius for thing in things]) + self.radius + berth
        self._forbidden = forbidden

    def wall_distance(self, points: np.ndarray) -> np.ndarray:
        """Returns the distance of points (N, 2) to the nearest wall (N,)."""
        start, end = self._segments[:, 0], self._segments[:, 1]
        along = end - start
        to_point = points[:, None] - start
        part = (to_point * along).sum(-1) / (along * along).sum(-1)
        nearest = start + np.clip(part, 0.0, 1.0)[..., None] * along
        return np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1)

    def is_free(self, points: np.ndarray, margin: float = _MARGIN) -> np.ndarray:
        """Returns whether the agent can stand on points (N, 2), bool (N,)."""
        free = self.wall_distance(points) >= self.radius + margin
        if len(self._centres):
            apart = np.linalg.norm(points[:, None] - self._centres, axis=-1)
            free &= (apart >= self._radii + margin).all(axis=1)
        if self._forbidden is not None:
            room = self._forbidden
            inside = (points >= [room.min_x - 0.1, room.min_z]) & (
                points <= [room.max_x, room.max_z]
            )
            free &= ~inside.all(axis=1)
        return free

    def grid(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Returns the field's points (N, 2), row by row, and its shape."""
        sim = self._simulator
        # Outdoor rooms stretch far beyond where anything happens.
        low = np.maximum([sim.min_x, sim.min_z], -30.0)
        high = np.minimum([sim.max_x, sim.max_z], 30.0)
        xs, zs = (np.arange(low[i], high[i] + CELL, CELL) for i in (0, 1))
        points = np.stack(np.meshgrid(xs, zs, indexing="ij"), axis=-1)
        return points.reshape(-1, 2), (len(xs), len(zs))


class DistanceField:
    """Length of the shortest way from any point to a set of goal points, round all obstacles.

    Args:
        plan: The floor plan.
        is_goal: bool (N,): which of the plan's grid points are goals.
    """

    def __init__(self, plan: FloorPlan, is_goal: np.ndarray) -> None:
        points, self._shape = plan.grid()
        self._origin = points[0]
        free = np.concatenate([plan.is_free(part) for part in np.array_split(points, 40)])
        self._length, following = _lengths(
            free.reshape(self._shape), (is_goal & free).reshape(self._shape)
        )
        end = following
        for _ in range(_HOPS - 1):
            end = following[end]
        self._ahead = points[end]

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the way from points to the goal.

        Args:
            points: (N, 2).

        Returns:
            Metres (N,), inf where there is no way; and the unit vectors (N, 2) in which the ways
            begin.
        """
        position = (points - self._origin) / CELL
        corner = np.floor(position).astype(int)
        best = np.full(len(points), np.inf)
        ahead = points.copy()
        for dx in (-1, 0, 1, 2):
            for dz in (-1, 0, 1, 2):
                cell = corner + np.array([dx, dz])
                inside = ((cell >= 0) & (cell < self._shape)).all(axis=1)
                kept = np.clip(cell, 0, np.array(self._shape) - 1)
                apart = CELL * np.linalg.norm(position - kept, axis=1)
                length = self._length[kept[:, 0], kept[:, 1]] + apart
                better = inside & (length < best)
                best[better] = length[better]
                ahead[better] = self._ahead[kept[better] @ [self._shape[1], 1]]
        way = ahead - points
        return best, way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)


def _lengths(free: np.ndarray, is_goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the shortest ways to the nearest goal over free cells, by Dijkstra.

    Returns:
        Metres (rows, columns), and the number (rows * columns,) of the cell that follows on the
        way, a cell's own number at goals and where there is no way.
    """
    lengths = np.full(free.shape, np.inf)
    queue = [(0.0, int(row), int(column)) for row, column in np.argwhere(is_goal)]
    lengths[is_goal] = 0.0
    rows, columns = free.shape
    moves = [
        (dr, dc, CELL * float(np.hypot(dr, dc)))
        for dr, dc in (
            *((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)),
            *((1, 2), (2, 1), (-1, 2), (-2, 1), (1, -2), (2, -1), (-1, -2), (-2, -1)),
        )
    ]
    is_free, best = free.tolist(), lengths.tolist()
    following = np.arange(free.size)
    while queue:
        length, row, column = heapq.heappop(queue)
        if length > best[row][column]:
            continue
        for dr, dc, step in moves:
            r, c = row + dr, column + dc
            if 0 <= r < rows and 0 <= c < columns and is_free[r][c] and length + step < best[r][c]:
                best[r][c] = length + step
                following[r * columns + c] = row * columns + column
                heapq.heappush(queue, (length + step, r, c))
    return np.array(best), following
