"""Positions of the values of many steps, for `step.py`, which lays out whole columns at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from db1.tokens.spec import FieldSpec


class FieldGroup:
    """The number fields of one kind, encoded together.

    Args:
        fields: All observation fields.
        numbers: Keys of the number fields in the order of their tokens.
        kind: `continuous` or `discrete`.

    Attributes:
        keys: Keys of this kind, in order.
        columns: Their places among the tokens of all numbers: a slice where they are neighbours,
            else indices.
    """

    def __init__(self, fields: Mapping[str, FieldSpec], numbers: Sequence[str], kind: str) -> None:
        self._fields = fields
        self.keys = [key for key in numbers if fields[key].kind == kind]
        self._sizes = [fields[key].size for key in self.keys]
        places = np.repeat([key in self.keys for key in numbers], [fields[k].size for k in numbers])
        indices = np.flatnonzero(places)
        first, last = (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 0)
        self.columns = slice(first, last) if last - first == len(indices) else indices

    def gather(self, observations: Mapping[str, np.ndarray], dtype: type) -> np.ndarray:
        """Values of the fields side by side, (N, number of columns)."""
        flat = []
        for key, size in zip(self.keys, self._sizes, strict=True):
            values = np.asarray(observations[key], dtype)
            flat.append(values.reshape(len(values), size))
        return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)

    def check(self, observations: Mapping[str, np.ndarray]) -> None:
        """Raises DataError naming the field of a value (N, ...) that does not lie in it."""
        for key in self.keys:
            self._fields[key].check_values(np.asarray(observations[key]), key)


def step_places(num_steps: int, num_seen: int, num_actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Local positions, int32, and where actions stand, bool, of equally long steps; read-only.

    Both are (num_steps * (num_seen + num_actions),).
    """
    capacity = 1 << max(0, num_steps - 1).bit_length()
    positions, action_mask = _repeated_places(capacity, num_seen, num_actions)
    stop = num_steps * (num_seen + num_actions)
    return positions[:stop], action_mask[:stop]


@lru_cache(maxsize=256)
def _repeated_places(
    num_steps: int, num_seen: int, num_actions: int
) -> tuple[np.ndarray, np.ndarray]:
    one = np.zeros(num_seen + num_actions, dtype=np.int32)
    one[:num_seen] = np.arange(1, num_seen + 1)
    positions = np.tile(one, num_steps)
    action_mask = positions == 0
    positions.setflags(write=False)
    action_mask.setflags(write=False)
    return positions, action_mask
