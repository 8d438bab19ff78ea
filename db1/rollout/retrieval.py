"""Retrieve and play: the action of the nearest demonstration step. What a model must beat.

An observation becomes one vector; the distance is Euclidean:

    continuous   standardised over the demonstrations, number by number
    discrete     0 or sqrt(2) for each value that is equal or not (a one-hot code)
    image        averaged over 8 x 8 areas, 0..1, divided by sqrt of their number
    text         steps with the very same text only, where there are any

Each group is divided by the square root of its size, so that an image of many areas does not drown
a few numbers. Of steps whose action is not allowed now, none is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.rollout.demonstrations import learned_episodes
from db1.store.episodes import EpisodeStore
from db1.suites import TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

MAX_STEPS = 100_000
"""Demonstration steps that are kept in memory; whole episodes, the first ones of the store."""

IMAGE_AREAS = 8
MIN_SPREAD = 1e-6


class RetrievalPolicy:
    """See the module's docstring.

    Args:
        task_id: `suite/task`, named in errors.
        folder: The task's demonstration store.
        episodes: Numbers of the stored episodes that are known; None: all.
        max_steps: Demonstration steps that are kept.

    Raises:
        DataError: When there is no demonstration.
    """

    def __init__(
        self,
        task_id: str,
        folder: Path,
        episodes: Sequence[int] | None = None,
        max_steps: int = MAX_STEPS,
    ) -> None:
        store = EpisodeStore(folder)
        if store.num_episodes == 0:
            raise DataError(
                f"{folder}: no demonstration of {task_id} to retrieve from; "
                f"run `db1 collect {task_id}`"
            )
        self._spec = store.spec
        known = learned_episodes(store, episodes)
        ends = np.cumsum(store.lengths[known])
        count = max(1, int(np.searchsorted(ends, max_steps, side="right")))
        windows = [store.read_window(int(episode)) for episode in known[:count]]
        observations = {
            key: np.concatenate([seen[key] for seen, _ in windows])
            for key in self._spec.observation
        }
        self._actions = np.concatenate([actions for _, actions in windows])
        self._points = _Points(self._spec, observations)
        self._steps_of = _steps_by_text(self._spec, observations)

    def start(self, envs: Sequence[TaskEnv], seeds: Sequence[int]) -> None:
        """See `RolloutPolicy`."""

    def act(self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray) -> list[Any]:
        """See `RolloutPolicy`; rows (N,)."""
        return [self._nearest_action(observation) for observation in observations]

    def _nearest_action(self, observation: Mapping[str, Any]) -> Any:
        stacked = {key: np.asarray(observation[key])[None] for key in self._spec.observation}
        steps = self._steps_of.get(_texts(self._spec, stacked)[0])
        mask = self._spec.action_mask
        if mask is not None:
            allowed = np.asarray(observation[mask]).astype(bool)
            usable = np.flatnonzero(allowed[self._actions.astype(np.int64)])
            if not len(usable):
                return int(np.flatnonzero(allowed)[0])
            both = usable if steps is None else np.intersect1d(usable, steps)
            steps = both if len(both) else usable
        distances = self._points.distances(stacked, steps)
        nearest = int(distances.argmin())
        action = self._actions[nearest if steps is None else steps[nearest]]
        return int(action) if self._spec.action.kind == "discrete" and action.ndim == 0 else action


class _Points:
    """The demonstrations' observations: vectors of what is measured, codes of what is counted.

    The distance of two one-hot codes needs no vectors: it is 2 for each value that differs.
    """

    def __init__(self, spec: StepSpec, observations: Mapping[str, np.ndarray]) -> None:
        measured = {k: f for k, f in spec.observation.items() if f.kind in ("continuous", "image")}
        self._features = _Features(measured, observations)
        self._vectors = self._features.encode(observations)
        self._squares = (self._vectors**2).sum(axis=1)
        self._codes = {
            key: _codes(field, observations[key])
            for key, field in spec.observation.items()
            if field.kind == "discrete"
        }
        self._num_values = {key: spec.observation[key].num_values for key in self._codes}

    def distances(
        self, observation: Mapping[str, np.ndarray], steps: np.ndarray | None
    ) -> np.ndarray:
        """Squared distances from some steps, up to a constant, float (N,).

        Args:
            observation: Values with one step on the first axis.
            steps: Numbers of the steps (N,); None: all.
        """
        if steps is not None and 4 * len(steps) > len(self._squares):  # picking costs more
            return self.distances(observation, None)[steps]
        part = slice(None) if steps is None else steps
        vector = self._features.encode(observation)[0]
        found = self._squares[part] - 2.0 * (self._vectors[part] @ vector)
        for key, codes in self._codes.items():
            seen = np.asarray(observation[key]).reshape(-1, 1).astype(codes.dtype)
            weight = 2.0 / (len(codes) * self._num_values[key])
            found = found + weight * _num_different(codes[:, part], seen)
        return found


def _codes(field: FieldSpec, values: np.ndarray) -> np.ndarray:
    """Discrete values with N steps on the first axis -> (values a step, N), in few bytes."""
    flat = np.asarray(values).reshape(len(values), -1).T
    return np.ascontiguousarray(flat, dtype=np.min_scalar_type(max(field.num_values - 1, 0)))


def _num_different(codes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Number of values of each step that differ: (values, N) against (values, 1) -> (N,).

    Summed value by value: adding rows of bytes is a tenth of the work of counting in each step.
    """
    differs = (codes != seen).view(np.uint8)
    return np.add.reduce(differs, axis=0, dtype=np.min_scalar_type(len(codes)))


class _Features:
    """Numbers and images -> vectors, with the demonstrations' means and spreads."""

    def __init__(
        self, fields: Mapping[str, FieldSpec], observations: Mapping[str, np.ndarray]
    ) -> None:
        self._fields = fields
        self._scales: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for key, field in self._fields.items():
            if field.kind == "continuous":
                flat = observations[key].reshape(len(observations[key]), -1).astype(np.float64)
                self._scales[key] = flat.mean(axis=0), np.maximum(flat.std(axis=0), MIN_SPREAD)

    def encode(self, observations: Mapping[str, np.ndarray]) -> np.ndarray:
        """Arrays with N steps on the first axis -> float32 (N, number of features)."""
        parts = [self._part(key, field, observations[key]) for key, field in self._fields.items()]
        if not parts:
            num_steps = len(next(iter(observations.values())))
            return np.zeros((num_steps, 1), dtype=np.float32)
        return np.concatenate(
            [(part / np.sqrt(part.shape[1])).astype(np.float32) for part in parts], axis=1
        )

    def _part(self, key: str, field: FieldSpec, values: np.ndarray) -> np.ndarray:
        if field.kind == "image":
            return _areas(values)
        mean, spread = self._scales[key]
        flat = np.asarray(values).reshape(len(values), -1)
        return np.clip((flat - mean) / spread, -10.0, 10.0)


def _areas(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) -> means over a grid of areas, float (N, areas * C), 0..1."""
    n, height, width, channels = images.shape
    rows, columns = min(IMAGE_AREAS, height), min(IMAGE_AREAS, width)
    cut = images[:, : height // rows * rows, : width // columns * columns]
    grid = cut.reshape(n, rows, height // rows, columns, width // columns, channels)
    return grid.mean(axis=(2, 4), dtype=np.float32).reshape(n, -1) / 255.0


def _texts(spec: StepSpec, observations: Mapping[str, np.ndarray]) -> np.ndarray:
    """All text fields of each step as one string, (N,)."""
    keys = [key for key, field in spec.observation.items() if field.kind == "text"]
    num_steps = len(next(iter(observations.values())))
    return np.array(["\n".join(str(observations[k][i]) for k in keys) for i in range(num_steps)])


def _steps_by_text(spec: StepSpec, observations: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers of the steps of each text, ascending; {} for a task without text."""
    if not any(field.kind == "text" for field in spec.observation.values()):
        return {}
    texts, places = np.unique(_texts(spec, observations), return_inverse=True)
    order = np.argsort(places, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(places))[:-1])
    return dict(zip(texts.tolist(), groups, strict=True))
