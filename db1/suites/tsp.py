"""The travelling salesman as an episode: step by step the agent builds one closed tour.

    observation  `candidates`  (K, 2) positions of K other cities relative to the current one
                 `start`       (2,) position of the start city relative to the current one
                 `unvisited`   K discrete 0/1: which candidates may be chosen (the action mask)
    action       K values: the candidate to go to
    reward       minus the distance travelled; the last step adds the way back to the start

The candidates are the K = min(n - 1, 50) nearest other cities, nearest first, visited ones masked.
When all of those are visited, the K nearest unvisited cities come first, nearest first, and the
nearest visited ones fill up. An episode has n - 1 steps; the return is minus the tour's length.

    tsp/uniformN     the reset seed draws N cities uniformly in the unit square; start: city 0
    tsp/tspN-I       instance I is fixed, the reset seed draws the start city
"""

from __future__ import annotations

from typing import Any

import numpy as np

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

MAX_CANDIDATES = 50
UNIFORM_SIZES = (20, 50, 100)
FIXED_SIZES = (100, 200)
NUM_FIXED = 100


def step_spec(num_cities: int) -> StepSpec:
    """Returns the fields of one step among `num_cities` cities."""
    k = min(num_cities - 1, MAX_CANDIDATES)
    return StepSpec(
        observation={
            "candidates": FieldSpec(kind="continuous", shape=(k, 2)),
            "start": FieldSpec(kind="continuous", shape=(2,)),
            "unvisited": FieldSpec(kind="discrete", shape=(k,), num_values=2),
        },
        action=FieldSpec(kind="discrete", num_values=k),
        action_mask="unvisited",
    )


class TspEnv(TaskEnv):
    """One travelling-salesman task.

    Attributes:
        cities: float64 (n, 2), positions in the unit square.
        distances: float64 (n, n).
        start, current: Indices of cities.
        visited: bool (n,); the start city counts as visited.
        candidates: int64 (K,), the city behind each action.

    Args:
        task_id: `tsp/<task>`.
        num_cities: n.
        instance: Number of the fixed instance; None: each seed draws new cities.
    """

    def __init__(self, task_id: str, num_cities: int, instance: int | None) -> None:
        super().__init__(task_id=task_id, step_spec=step_spec(num_cities), max_steps=num_cities - 1)
        self.num_cities = num_cities
        self._fixed = None if instance is None else _draw((num_cities, instance), num_cities)

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        if self._fixed is None:
            self.cities, self.start = _draw(seed, self.num_cities), 0
        else:
            self.cities = self._fixed
            self.start = int(np.random.default_rng(seed).integers(self.num_cities))
        self.distances = np.linalg.norm(self.cities[:, None] - self.cities[None], axis=-1)
        self.current = self.start
        self.visited = np.zeros(self.num_cities, dtype=bool)
        self.visited[self.start] = True
        return self._observe(), {}

    def _step(self, action: int) -> StepResult:
        city = int(self.candidates[action])
        if self.visited[city]:
            allowed = np.flatnonzero(~self.visited[self.candidates]).tolist()
            raise DataError(
                f"{self.task_id} step {self.num_steps}: action {action} is a visited city, "
                f"expected one of {allowed} (where 'unvisited' is 1)"
            )
        travelled = self.distances[self.current, city]
        self.visited[city] = True
        self.current = city
        finished = bool(self.visited.all())
        if finished:
            travelled += self.distances[city, self.start]
        return self._observe(), -float(travelled), finished, False, {}

    def _observe(self) -> Observation:
        self.candidates = self._nearest_candidates()
        origin = self.cities[self.current]
        return {
            "candidates": self.cities[self.candidates] - origin,
            "start": self.cities[self.start] - origin,
            "unvisited": ~self.visited[self.candidates],
        }

    def _nearest_candidates(self) -> np.ndarray:
        order = np.argsort(self.distances[self.current], kind="stable")
        order = order[order != self.current]
        k = self.step_spec.action.num_values
        if not self.visited[order[:k]].all():
            return order[:k]
        seen = self.visited[order]
        return np.concatenate([order[~seen], order[seen]])[:k]


class Tsp(Suite):
    """Uniform instances of three sizes, and a hundred fixed ones each with 100 and 200 cities."""

    name = "tsp"
    extra = "tsp"
    rules = "1"

    def task_names(self) -> list[str]:
        uniform = [f"uniform{n}" for n in UNIFORM_SIZES]
        return uniform + [f"tsp{n}-{i}" for n in FIXED_SIZES for i in range(NUM_FIXED)]

    def horizon(self, task_name: str) -> int:
        return _size_and_instance(task_name)[0] - 1

    def expert_name(self, task_name: str) -> str:
        return "tsp_elkai"

    def step_spec(self, task_name: str) -> StepSpec:
        self.check_task(task_name)
        return step_spec(_size_and_instance(task_name)[0])

    def _make_env(self, task_name: str) -> TspEnv:
        return TspEnv(f"{self.name}/{task_name}", *_size_and_instance(task_name))


def _size_and_instance(task_name: str) -> tuple[int, int | None]:
    if task_name.startswith("uniform"):
        return int(task_name.removeprefix("uniform")), None
    size, _, instance = task_name.removeprefix("tsp").partition("-")
    return int(size), int(instance)


def _draw(seed: int | tuple[int, int], num_cities: int) -> np.ndarray:
    return np.random.default_rng(seed).random((num_cities, 2))


SUITES.register("tsp")(Tsp())
