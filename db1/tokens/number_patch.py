"""Number patches: several consecutive numbers of an observation as one token.

As 16x16 pixels become one image token, G numbers become one number token: a placeholder in the id
sequence, whose embedding the model makes from the G values. Number fields are laid out in
lexicographic order of their keys. A field of at least G numbers starts a new patch; smaller fields
share one as long as they fit. With G = 4:

    a: 2 numbers, b: 1, c: 6, d: 3      a a b . | c c c c | c c . . | d d d .

so that the rows of a grid stay rows. Each number has a code that says what it is:

    0                              nothing (the end of a patch)
    1                              a continuous number, its value beside it
    2 + 1,024 channel + value      a discrete value; the channel is the index on the field's last
                                   axis (type, colour and state of a grid's cells), else 0

Source: the patches of images in Reed et al. 2022, section 2.1, carried over to numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from db1.errors import ConfigError
from db1.tokens.spec import FieldSpec

EMPTY_CODE, CONTINUOUS_CODE, FIRST_DISCRETE_CODE = 0, 1, 2
MAX_DISCRETE = 1_024
"""Values that a discrete field can have at most (see `FieldSpec`)."""
NUM_CHANNELS = 4
NUM_CODES = FIRST_DISCRETE_CODE + NUM_CHANNELS * MAX_DISCRETE
NUM_LAYOUTS = 4_096
"""Hash buckets of what the numbers of a patch stand for."""


@dataclass(frozen=True, kw_only=True)
class PatchSizes:
    """Sizes of the patches that become one token each.

    Args:
        image: Side of an image patch in pixels.
        numbers: Consecutive numbers of an observation in a number patch; 1: every number is a
            token of its own (Gato, DB1).

    Raises:
        ConfigError: For sizes below 1.
    """

    image: int = 16
    numbers: int = 1

    def __post_init__(self) -> None:
        for name in ("image", "numbers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"patch size {name}: got {getattr(self, name)}, expected >= 1")


@dataclass(frozen=True, kw_only=True)
class NumberPatches:
    """Number patches in the order of their placeholders.

    Args:
        values: float32 (n, G): continuous numbers; 0 where the code is no continuous one.
        codes: int32 (n, G): what each number is (see above).
        layouts: int32 (n,): hash bucket of the fields that a patch holds.
    """

    values: np.ndarray
    codes: np.ndarray
    layouts: np.ndarray

    def __len__(self) -> int:
        return len(self.layouts)

    def __getitem__(self, part: slice) -> NumberPatches:
        """Some consecutive patches, as views."""
        return NumberPatches(
            values=self.values[part], codes=self.codes[part], layouts=self.layouts[part]
        )


def concatenate_patches(parts: Sequence[NumberPatches | None]) -> NumberPatches | None:
    """Patches of several stretches, one after the other; None where there are none."""
    present = [part for part in parts if part is not None and len(part)]
    if len(present) < 2:
        return present[0] if present else None
    return NumberPatches(
        values=np.concatenate([part.values for part in present]),
        codes=np.concatenate([part.codes for part in present]),
        layouts=np.concatenate([part.layouts for part in present]),
    )


class NumberLayout:
    """Cuts the number fields of a step into patches.

    Args:
        fields: Number fields by key.
        keys: The keys in the order of their numbers.
        size: G.
        max_magnitude: Continuous numbers are clipped to this magnitude, as the bins clip them.

    Attributes:
        num_patches: Patches of a step.
    """

    def __init__(
        self, fields: Mapping[str, FieldSpec], keys: Sequence[str], size: int, max_magnitude: float
    ) -> None:
        self._fields = [(key, fields[key]) for key in keys]
        self._max_magnitude = np.float32(max_magnitude)
        self._size = size
        starts, end = {}, 0
        held: dict[int, list[str]] = {}
        for key, field in self._fields:
            free = -end % size
            if field.size >= size or field.size > free:
                end += free
            starts[key] = end
            for patch in range(end // size, -(-(end + field.size) // size)):
                first = max(0, patch * size - end)
                held.setdefault(patch, []).append(f"{key}{field.shape}{field.kind}{first}")
            end += field.size
        self.num_patches = -(-end // size)
        self._columns = {key: slice(s, s + fields[key].size) for key, s in starts.items()}
        buckets = [zlib.crc32(" ".join(held[p]).encode()) for p in range(self.num_patches)]
        self._layouts = np.array([b % NUM_LAYOUTS for b in buckets], dtype=np.int32)
        self._codes = np.zeros(self.num_patches * size, dtype=np.int32)
        for key, field in self._fields:
            self._codes[self._columns[key]] = _first_codes(field)

    def patches(self, observations: Mapping[str, np.ndarray]) -> NumberPatches:
        """Patches of N steps, one step's after the other's.

        Args:
            observations: Arrays (N, ...) by key, checked.
        """
        num_steps = len(next(iter(observations.values())))
        width = self.num_patches * self._size
        values = np.zeros((num_steps, width), dtype=np.float32)
        codes = np.tile(self._codes, (num_steps, 1))
        for key, field in self._fields:
            numbers = np.asarray(observations[key]).reshape(num_steps, field.size)
            if field.kind == "discrete":
                codes[:, self._columns[key]] += numbers.astype(np.int32)
            else:
                with np.errstate(over="ignore"):
                    numbers = numbers.astype(np.float32)
                limit = self._max_magnitude
                values[:, self._columns[key]] = np.clip(numbers, -limit, limit)
        return NumberPatches(
            values=values.reshape(-1, self._size),
            codes=codes.reshape(-1, self._size),
            layouts=np.tile(self._layouts, num_steps),
        )


def _first_codes(field: FieldSpec) -> np.ndarray:
    """Code of each number of a field, for a discrete one that of the value 0; int32 (size,)."""
    if field.kind == "continuous":
        return np.full(field.size, CONTINUOUS_CODE, dtype=np.int32)
    has_channels = len(field.shape) > 1 and field.shape[-1] <= NUM_CHANNELS
    channels = np.arange(field.size) % field.shape[-1] if has_channels else np.zeros(field.size)
    return (FIRST_DISCRETE_CODE + MAX_DISCRETE * channels).astype(np.int32)
