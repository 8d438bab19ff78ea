"""Fields of an episode as columns of a LeRobot data set, and its statistics of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from db1.tokens.spec import FieldSpec


class FieldStatistics:
    """Smallest and largest value, mean and deviation of a feature, per number or per channel."""

    def __init__(self, field: FieldSpec) -> None:
        self._field = field
        self._count = 0
        self._low: Any = None
        self._high: Any = None
        self._sum: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        """Takes the steps of an episode (T, *shape)."""
        if self._field.kind == "text" or not len(values):
            return
        rows = np.asarray(values, np.float64).reshape(len(values), -1)
        if self._field.kind == "image":
            rows = np.asarray(values, np.float64).reshape(-1, values.shape[-1]) / 255.0
        low, high = rows.min(axis=0), rows.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        self._sum = self._sum + rows.mean(axis=0) * len(values)
        self._squares = self._squares + (rows**2).mean(axis=0) * len(values)
        self._count += len(values)

    def to_dict(self) -> dict[str, Any] | None:
        """LeRobot's entry; None for text."""
        if not self._count:
            return None
        mean = self._sum / self._count
        deviation = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0.0))
        shape = (-1, 1, 1) if self._field.kind == "image" else (self._field.shape or (1,))
        found = {"min": self._low, "max": self._high, "mean": mean, "std": deviation}
        entry = {name: np.reshape(value, shape).tolist() for name, value in found.items()}
        return {**entry, "count": [self._count]}


def png_pictures(values: np.ndarray) -> list[dict[str, Any]]:
    """uint8 (T, height, width, 3) -> PNG files, which lose nothing."""
    from PIL import Image

    found = []
    for number, picture in enumerate(values):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        found.append({"bytes": buffer.getvalue(), "path": f"frame-{number:06d}.png"})
    return found


def list_column(values: np.ndarray, kind: Any) -> Any:
    """Values (T, *shape) as a column of lists of lists, without going through Python's numbers."""
    import pyarrow
    from pyarrow import types

    if types.is_string(kind):
        return pyarrow.array([str(value) for value in values], type=kind)
    levels, inner = [], kind
    while types.is_list(inner) or types.is_fixed_size_list(inner):
        levels.append(inner)
        inner = inner.value_type
    array = pyarrow.array(values.reshape(-1)).cast(inner)
    for depth in range(len(levels), 0, -1):
        length = values.shape[depth]
        if types.is_fixed_size_list(levels[depth - 1]):
            array = pyarrow.FixedSizeListArray.from_arrays(array, length)
        else:
            count = len(array) // length
            offsets = pyarrow.array(np.arange(count + 1) * length, pyarrow.int32())
            array = pyarrow.ListArray.from_arrays(offsets, array)
    return array.cast(kind)
