"""Fields of a foreign step, and how their values become those that db1 stores.

    continuous   float32; actions are rescaled from their bounds to [-1, 1], as the suites do
    discrete     int32, shifted to start at 0
    image        uint8 (H, W, 3), sides multiples of 16 (see `image_conversion`)
    text         str

Everything wrong with the values of one episode raises BadEpisode, which `--skip-bad` counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.formats.pictures import MIN_IMAGE_SIDE, Picture, convert_pictures
from db1.tokens.spec import FieldSpec

MAX_DISCRETE = 1_024
"""Most values that a discrete field may take (the vocabulary's limit)."""


class BadEpisode(DataError):
    """One episode of a source cannot be used; the others may."""


@dataclass(frozen=True, kw_only=True)
class SourceField:
    """One array of a step as the source has it.

    Args:
        kind: As of a FieldSpec.
        shape: Shape of one step's value in the source.
        num_values: Of a discrete field, counted from `start`.
        start: Smallest value of a discrete field.
        low: Smallest values of a continuous action, broadcast to `shape`; None: -1.
        high: Largest values, None: 1.
        picture: How an image field is stored.
        dtype: Name of the source's dtype; empty for text.
    """

    kind: str
    shape: tuple[int, ...] = ()
    num_values: int | None = None
    start: int = 0
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    picture: Picture | None = None
    dtype: str = ""

    @property
    def spec(self) -> FieldSpec:
        """Spec of the stored field."""
        if self.picture is not None:
            return FieldSpec(kind="image", shape=self.picture.stored_shape)
        return FieldSpec(kind=self.kind, shape=self.shape, num_values=self.num_values)

    def with_bounds(self, low: Any, high: Any, where: str = "action bounds") -> SourceField:
        """The field with bounds; as it is where they are infinite, or [-1, 1] everywhere.

        A number whose bounds are equal never moves: it is stored as 0.

        Args:
            low: Smallest values, broadcast to the shape.
            high: Largest values.
            where: Names them in errors.

        Raises:
            DataError: A low above its high.
        """
        low = np.broadcast_to(np.asarray(low, np.float64), self.shape)
        high = np.broadcast_to(np.asarray(high, np.float64), self.shape)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return self
        if not (low <= high).all():
            bad = tuple(int(i) for i in np.argwhere(low > high)[0])
            raise DataError(
                f"{where}: low {low[bad]:g} above high {high[bad]:g} in dimension {list(bad)}, "
                "expected low below high; give --action-low and --action-high"
            )
        if (low == -1.0).all() and (high == 1.0).all():
            return self
        return replace(self, low=low, high=high)


def infer_field(
    dtype: np.dtype,
    shape: tuple[int, ...],
    value_range: Callable[[], tuple[int, int]],
    where: str,
    *,
    image_size: int | None = None,
    frames: str | None = None,
) -> SourceField:
    """The field of arrays that come without a declared space.

    Floats are continuous; uint8 arrays of pictures are images; other integers are discrete while
    they lie in 0..1023, else continuous; strings are text.

    Args:
        dtype: Of the arrays.
        shape: Of one step's value.
        value_range: Returns the smallest and the largest value of all episodes; called for
            integers only.
        where: Names the array in errors.
        image_size: See `Picture`.
        frames: See `Picture`.

    Raises:
        DataError: A dtype that is none of these; nothing is ever unpickled.
    """
    if dtype.kind == "U" or (dtype.kind == "O" and shape == ()):
        return SourceField(kind="text")
    if dtype.kind == "f":
        return SourceField(kind="continuous", shape=shape, dtype=dtype.name)
    if dtype.kind == "b":
        return SourceField(kind="discrete", shape=shape, num_values=2, dtype=dtype.name)
    if dtype.kind not in "iu":
        raise DataError(
            f"{where}: dtype {dtype}, expected floats, integers, booleans or text; convert the data"
        )
    if dtype == np.uint8 and is_picture(shape):
        return image_field(shape, image_size=image_size, frames=frames, where=where)
    low, high = value_range()
    if low < 0 or high >= MAX_DISCRETE:
        return SourceField(kind="continuous", shape=shape, dtype=dtype.name)
    return SourceField(kind="discrete", shape=shape, num_values=high + 1, dtype=dtype.name)


def is_picture(shape: tuple[int, ...]) -> bool:
    """Tells whether uint8 arrays of this shape are images, see `Picture.of`."""
    if len(shape) == 4:
        return shape[0] <= 16 and is_picture(shape[1:])
    if len(shape) == 3:
        sides = shape[1:] if shape[0] < MIN_IMAGE_SIDE else shape[:2]
        return min(sides) >= MIN_IMAGE_SIDE and min(shape[0], shape[2]) <= 16
    return len(shape) == 2 and min(shape) >= MIN_IMAGE_SIDE


def image_field(
    shape: tuple[int, ...], *, image_size: int | None, frames: str | None, where: str
) -> SourceField:
    """The field of uint8 pictures."""
    picture = Picture.of(shape, image_size=image_size, frames=frames, where=where)
    return SourceField(kind="image", shape=shape, picture=picture, dtype="uint8")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Values of an episode as they are stored, and how many steps' actions were clipped."""

    values: np.ndarray
    num_clipped: int = 0


def convert(field: SourceField, values: Any, where: str) -> np.ndarray:
    """Converts the values (T, ...) of an observation field over T steps to the stored (T, *shape).

    Raises:
        BadEpisode: Ragged or wrong shapes, values not finite or outside the field, a picture of
            another size.
        DataError: Another dtype than the field's.
    """
    return _CONVERTERS[field.kind](field, _array(field, values, where), where)


def convert_actions(field: SourceField, values: Any, where: str, *, clip: bool) -> Converted:
    """Converts actions; continuous ones are rescaled from their bounds to [-1, 1].

    Args:
        field: The action.
        values: (T, *shape).
        where: Names the episode.
        clip: Clip continuous actions to their bounds instead of refusing them.

    Raises:
        BadEpisode: As `convert`, and for actions outside the space.
    """
    array = _array(field, values, where)
    if field.kind != "continuous":
        return Converted(values=_CONVERTERS[field.kind](field, array, where))
    _check_finite(array, where)
    low = np.float64(-1.0) if field.low is None else field.low
    high = np.float64(1.0) if field.high is None else field.high
    is_outside = ((array < low) | (array > high)).reshape(len(array), -1).any(axis=1)
    num_outside = int(is_outside.sum())
    if num_outside and not clip:
        step = int(np.flatnonzero(is_outside)[0])
        raise BadEpisode(
            f"{where}: {num_outside} of {len(array)} actions outside the space "
            f"{np.min(low):g}..{np.max(high):g} (step {step}: {array[step].tolist()}); give "
            "--action-low and --action-high, or pass --clip-actions"
        )
    if field.low is None and not num_outside:
        return Converted(values=array.astype(np.float32))
    clipped = np.clip(array.astype(np.float64), low, high)
    scaled = clipped if field.low is None else _scaled(clipped, low, high)
    return Converted(values=scaled.astype(np.float32), num_clipped=num_outside)


def _scaled(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Values between bounds -> [-1, 1]; 0 where both bounds are one number."""
    span = np.asarray(high - low)
    is_fixed = np.broadcast_to(span == 0.0, values.shape)
    scaled = (values - low) / np.where(span == 0.0, 1.0, span) * 2.0 - 1.0
    return np.where(is_fixed, 0.0, scaled)


def restore_actions(field: SourceField, values: np.ndarray) -> np.ndarray:
    """Undoes `convert_actions`: stored actions (T, *shape) -> the source's bounds, start, dtype."""
    if field.kind == "discrete":
        return (values.astype(np.int64) + field.start).astype(field.dtype)
    if field.low is None or field.high is None:
        return values.astype(field.dtype)
    unit = (values.astype(np.float64) + 1.0) / 2.0
    return np.clip(field.low + unit * (field.high - field.low), field.low, field.high).astype(
        field.dtype
    )


def _array(field: SourceField, values: Any, where: str) -> np.ndarray:
    """The values as an array of the field's shape and a dtype that fits its kind."""
    if field.kind == "text":
        return _texts(values, where)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadEpisode(f"{where}: ragged shapes ({error})") from None
    expected = {"continuous": "fiub", "discrete": "iub", "image": "u"}[field.kind]
    if field.kind == "discrete" and array.dtype.kind == "f" and field.dtype.startswith("float"):
        array = _whole(array, where)
    if array.dtype.kind not in expected or (field.kind == "image" and array.dtype != np.uint8):
        raise DataError(f"{where}: dtype {array.dtype}, expected {field.dtype or field.kind}")
    if array.ndim > 0 and is_same_shape(array.shape[1:], field.shape):
        array = array.reshape(len(array), *field.shape)
    if array.shape[1:] != field.shape:
        raise BadEpisode(f"{where}: shape {array.shape[1:]} a step, expected {field.shape}")
    return array


def is_same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """True for shapes that differ in axes of length one only, which say nothing."""
    return [n for n in one if n != 1] == [n for n in other if n != 1]


def _whole(array: np.ndarray, where: str) -> np.ndarray:
    """Floats that are whole numbers, as integers."""
    is_bad = ~np.isfinite(array) | (array != np.rint(array)) | (np.abs(array) > 2**31)
    if is_bad.any():
        raise BadEpisode(f"{where}: value {array[is_bad].flat[0]}, expected whole numbers")
    return array.astype(np.int64)


def _texts(values: Any, where: str) -> np.ndarray:
    texts = np.empty(len(values), dtype=object)
    for i, text in enumerate(values):
        try:
            texts[i] = text.decode("utf-8") if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            raise BadEpisode(f"{where}: step {i} is not UTF-8 ({error.reason})") from None
        if not isinstance(texts[i], str):
            raise BadEpisode(f"{where}: step {i} is {type(text).__name__}, expected text")
        texts[i] = str(texts[i])
    return texts


def _check_finite(array: np.ndarray, where: str) -> None:
    num_bad = int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0
    if num_bad:
        raise BadEpisode(f"{where}: {num_bad} values not finite")


def _continuous(field: SourceField, array: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond float32: the check finds it
        stored = array.astype(np.float32)
    _check_finite(stored, where)
    return stored


def _discrete(field: SourceField, array: np.ndarray, where: str) -> np.ndarray:
    assert field.num_values is not None
    values = array.astype(np.int64) - field.start
    is_bad = (values < 0) | (values >= field.num_values)
    if is_bad.any():
        last = field.start + field.num_values - 1
        raise BadEpisode(
            f"{where}: value {array[is_bad].flat[0]}, expected {field.start}..{last} "
            f"({int(is_bad.sum())} values outside)"
        )
    return values.astype(np.int32)


def _image(field: SourceField, array: np.ndarray, where: str) -> np.ndarray:
    assert field.picture is not None
    return convert_pictures(array, field.picture)


def _text(field: SourceField, array: np.ndarray, where: str) -> np.ndarray:
    return array


_CONVERTERS: Mapping[str, Callable[[SourceField, np.ndarray, str], np.ndarray]] = MappingProxyType(
    {"continuous": _continuous, "discrete": _discrete, "image": _image, "text": _text}
)
