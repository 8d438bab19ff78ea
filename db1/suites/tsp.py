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
    tsp/city200-I    the same, 200 cities in clusters like those of a country
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

MAX_CANDIDATES = 50
UNIFORM_SIZES = (20, 50, 100)
FIXED_SIZES = (100, 200)
NUM_FIXED = 100
CLUSTERED_SIZE, NUM_CLUSTERED = 200, 32
_MAP_SIZE, _FINER = 240, 3
_UNIFORM, _FIXED, _CLUSTERED = "uniform", "tsp", "city"


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
        tour: Indices of the cities in the order of the visits, from `start` on.
        visited: bool (n,); the start city counts as visited.
        candidates: int64 (K,), the city behind each action.

    Args:
        task_id: `tsp/<task>`.
        num_cities: n.
        fixed: float64 (n, 2), the cities of a fixed instance; None: each seed draws new ones.
    """

    def __init__(self, task_id: str, num_cities: int, fixed: np.ndarray | None) -> None:
        super().__init__(task_id=task_id, step_spec=step_spec(num_cities), max_steps=num_cities - 1)
        self.num_cities = num_cities
        self._fixed = fixed

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        if self._fixed is None:
            self.cities, self.start = uniform_cities(seed, self.num_cities), 0
        else:
            self.cities = self._fixed
            self.start = int(np.random.default_rng(seed).integers(self.num_cities))
        self.distances = np.linalg.norm(self.cities[:, None] - self.cities[None], axis=-1)
        self.current = self.start
        self.visited = np.zeros(self.num_cities, dtype=bool)
        self.visited[self.start] = True
        self.tour = [self.start]
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
        self.tour.append(city)
        finished = bool(self.visited.all())
        if finished:
            travelled += self.distances[city, self.start]
        return self._observe(), -float(travelled), finished, False, {}

    def render_frame(self) -> np.ndarray:
        """The map with the tour so far, (240, 240, 3): start green, current city red."""
        return draw_tour(self.cities, self.tour, bool(self.visited.all()))

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
    """Uniform instances of three sizes, and fixed ones: uniform and in clusters."""

    name = "tsp"
    extra = "tsp"
    rules = "1"

    def task_names(self) -> list[str]:
        uniform = [f"{_UNIFORM}{n}" for n in UNIFORM_SIZES]
        fixed = [f"{_FIXED}{n}-{i}" for n in FIXED_SIZES for i in range(NUM_FIXED)]
        clustered = [f"{_CLUSTERED}{CLUSTERED_SIZE}-{i}" for i in range(NUM_CLUSTERED)]
        return uniform + fixed + clustered

    def horizon(self, task_name: str) -> int:
        return _parse(task_name)[1] - 1

    def expert_name(self, task_name: str) -> str:
        return "tsp_elkai"

    def step_spec(self, task_name: str) -> StepSpec:
        self.check_task(task_name)
        return step_spec(_parse(task_name)[1])

    def _make_env(self, task_name: str) -> TspEnv:
        kind, num_cities, instance = _parse(task_name)
        cities = None
        if kind == _FIXED:
            cities = uniform_cities((num_cities, instance), num_cities)
        elif kind == _CLUSTERED:
            cities = clustered_cities(instance, num_cities)
        return TspEnv(f"{self.name}/{task_name}", num_cities, cities)


def uniform_cities(seed: int | tuple[int, int], num_cities: int) -> np.ndarray:
    """Returns cities uniform in the unit square, float64 (num_cities, 2)."""
    return np.random.default_rng(seed).random((num_cities, 2))


def clustered_cities(instance: int, num_cities: int) -> np.ndarray:
    """Returns cities in 3 to 8 normal clusters inside the unit square, float64 (num_cities, 2).

    Clusters differ in width and in their share of the cities; what falls outside is drawn again.
    """
    rng = np.random.default_rng((num_cities, instance, 1))
    num_clusters = int(rng.integers(3, 9))
    centres = rng.uniform(0.15, 0.85, size=(num_clusters, 2))
    widths = rng.uniform(0.03, 0.12, size=num_clusters)
    clusters = rng.choice(num_clusters, num_cities, p=rng.dirichlet(np.full(num_clusters, 3.0)))
    cities = np.full((num_cities, 2), -1.0)
    while (outside := ((cities < 0) | (cities > 1)).any(axis=1)).any():
        drawn = rng.normal(centres[clusters], widths[clusters, None])
        cities[outside] = drawn[outside]
    return cities


def draw_tour(cities: np.ndarray, tour: list[int], is_closed: bool) -> np.ndarray:
    """Draws a tour, uint8 (240, 240, 3).

    Args:
        cities: float (n, 2) in the unit square.
        tour: Cities in the order of the visits, the last one current.
        is_closed: Draw the way back to the first one.
    """
    size, margin = _MAP_SIZE * _FINER, 10 * _FINER
    picture = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(picture)
    places = [tuple(margin + place * (size - 2 * margin)) for place in cities]
    way = [places[city] for city in tour]
    if len(way) > 1:
        draw.line([*way, way[0]] if is_closed else way, fill="#3465a4", width=2 * _FINER)
    for number, place in enumerate(places):
        colour, radius = "#888888", 2.5
        if number in (tour[0], tour[-1]):
            colour, radius = "#2a9d3a" if number == tour[0] else "#d33030", 5.0
        draw.circle(place, radius * _FINER, fill=colour)
    return np.asarray(picture.reduce(_FINER))


def _parse(task_name: str) -> tuple[str, int, int]:
    """Kind of the instances, number of cities, number of the instance (0 where seeds draw)."""
    kind = task_name.rstrip("0123456789-")
    size, _, instance = task_name.removeprefix(kind).partition("-")
    return kind, int(size), int(instance or 0)


SUITES.register("tsp")(Tsp())
