"""The best tour by the Lin-Kernighan heuristic of elkai, replanned when noise leaves it."""

from __future__ import annotations

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv
from db1.suites.tsp import TspEnv

_LARGEST = 5_000_000
"""elkai works on whole numbers; distances are scaled so that the longest becomes this one (its
sums overflow, and it aborts, above 10 million)."""
_DETOUR = 2.0
"""More than a jump across the unit square: see `shortest_path`."""


class TspExpert:
    """Walks the shortest tour, towards the nearer of the start's two neighbours first.

    Off the tour (a noisy step went elsewhere) it solves the rest again: the shortest path from the
    current city through all unvisited ones to the start. It needs all cities, of which the
    observation shows the nearest.

    Args:
        task_name: Unused; the environment knows its cities.
    """

    def __init__(self, task_name: str) -> None:
        self._plan: list[int] = []
        self._solved: tuple[bytes, list[int]] | None = None

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Solves the instance; a fixed instance only once."""
        tsp = _tsp(env)
        key = tsp.cities.tobytes()
        if self._solved is None or self._solved[0] != key:
            self._solved = (key, _solve(tsp.distances))
        tour = self._solved[1]
        at = tour.index(tsp.start)
        forward = tour[at:] + tour[:at]
        backward = forward[:1] + forward[:0:-1]
        nearer = min((forward, backward), key=lambda t: tsp.distances[tsp.start, t[1]])
        self._plan = nearer

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the rank of the next city among the candidates."""
        tsp = _tsp(env)
        if self._plan[0] != tsp.current:
            self._plan = self._plan[1:]
        if self._plan[0] != tsp.current:
            self._plan = shortest_path(tsp)
        rank = np.flatnonzero(tsp.candidates == self._plan[1])
        if rank.size and not tsp.visited[self._plan[1]]:
            return int(rank[0])
        # The tour's next city is not on offer: take the nearest that is and replan from there.
        return int(np.flatnonzero(observation["unvisited"])[0])


def shortest_path(env: TspEnv) -> list[int]:
    """Returns the current city and all unvisited ones in the order of the shortest way home.

    A closed tour that must use a free edge from the start back to the current city is such a way.
    It must when every other edge costs `_DETOUR` more: a tour without the free edge can be made
    one with it by a single jump, which is shorter than the diagonal of the unit square.
    """
    rest = np.flatnonzero(~env.visited)
    nodes = np.array([env.current, *rest, env.start])
    if len(rest) <= 1:
        return nodes[:-1].tolist()
    distances = env.distances[np.ix_(nodes, nodes)] + _DETOUR
    distances[0, -1] = distances[-1, 0] = 0.0
    order = _solve(distances)
    at = order.index(0)
    order = order[at:] + order[:at]
    if order[1] == len(nodes) - 1:
        order = order[:1] + order[:0:-1]
    return nodes[order[:-1]].tolist()


def _solve(distances: np.ndarray) -> list[int]:
    """Returns the shortest closed tour as a list of the indices, each once."""
    try:
        import elkai
    except ImportError as error:
        raise MissingExtra("elkai", "tsp", "the expert of tsp") from error
    whole = np.rint(distances * (_LARGEST / distances.max())).astype(np.int64)
    return elkai.DistanceMatrix(whole.tolist()).solve_tsp(runs=1)[:-1]


def _tsp(env: TaskEnv) -> TspEnv:
    inner = env.unwrapped
    if not isinstance(inner, TspEnv):
        raise DataError(f"the expert of tsp got {type(inner).__name__}, expected a TspEnv")
    return inner


EXPERTS.register("tsp_elkai")(TspExpert)
