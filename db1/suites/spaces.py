"""Gymnasium spaces -> fields of a step, and values of one to values of the other.

    Box of floats                        continuous; actions are rescaled from bounds to [-1, 1]
    Box of pictures                      image: uint8, or floats in [0, 1]
    Box of integers, at most 1,024 wide  discrete, counted from its low
    other Box of integers                continuous
    Discrete, MultiDiscrete, MultiBinary discrete, counted from their start
    Text                                 text
    Dict, Tuple                          the fields of their parts, keys joined by `/`

A space that is no Dict and no Tuple is the field `state`, `pixels` or `text`. Keys are those that
`db1 import minari` gives to data of the same environment.

A step has one action field. Several discrete parts of different sizes become one joint action
(their mixed-radix number) while there are at most 1,024 of them; of equal sizes, and numbers, they
become one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs
import numpy as np
from PIL import Image

from db1.errors import DataError
from db1.suites.base import as_rgb
from db1.tokens.spec import PATCH_SIZE, FieldSpec, StepSpec

MAX_DISCRETE = 1_024
"""Most values of a discrete field (the vocabulary's limit)."""
MIN_IMAGE_SIDE = 32
"""Smaller uint8 arrays are grids of numbers, not pictures."""
MAX_PATCHES = 196
"""Larger pictures are shrunk to so many patches."""
MOST_TOKENS = 512
"""Tokens of an observation that a sequence takes (`db1.sequence.step`)."""
KNOWN = "Box, Discrete, MultiDiscrete, MultiBinary, Text, and Dict and Tuple of them"

Convert = Callable[[Any], Any]
_ALONE = {"continuous": "state", "discrete": "state", "image": "pixels", "text": "text"}


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One field of an observation.

    Args:
        path: Keys and numbers that lead to its value in the native observation.
        field: What db1 calls it.
        convert: Native value -> value of the field.
    """

    path: tuple[Any, ...]
    field: FieldSpec
    convert: Convert

    def read(self, observation: Any) -> Any:
        """The field's value in a native observation."""
        for key in self.path:
            observation = observation[key]
        return self.convert(observation)


@dataclass(frozen=True, kw_only=True)
class ActionMap:
    """An action field and the native actions it stands for.

    Args:
        field: Discrete, or continuous in [-1, 1].
        to_native: Value of the field -> native action.
        from_native: The reverse.
    """

    field: FieldSpec
    to_native: Convert
    from_native: Convert


def observation_leaves(space: gs.Space, where: str) -> dict[str, Leaf]:
    """Fields of an observation space by key.

    Args:
        space: Native observation space.
        where: Named in errors.

    Raises:
        DataError: A space that tokens cannot say.
    """
    leaves = {}
    for path, part in _parts(space, ()):
        key = "/".join(map(str, path))
        field, convert = _observation_field(
            part, f"{where}: observation {key!r}".replace(" ''", "")
        )
        leaves[key or _ALONE[field.kind]] = Leaf(path=path, field=field, convert=convert)
    return leaves


def action_map(space: gs.Space, where: str) -> ActionMap:
    """The action field of an action space.

    Args:
        space: Native action space.
        where: Named in errors.

    Raises:
        DataError: A space that one field cannot say, or a Box without bounds.
    """
    where = f"{where}: action"
    parts = [part for _, part in _parts(space, ())]
    if not parts:
        raise DataError(f"{where}: an empty space, expected {KNOWN}")
    if all(_is_float_box(part) for part in parts):
        return _continuous_action(space, parts, where)
    if any(_is_float_box(part) for part in parts):
        raise DataError(
            f"{where}: {space} has numbers and choices, and a step of db1 has one action field; "
            "split them in an environment of your own, or leave one of them fixed"
        )
    return _discrete_action(space, parts, where)


def _parts(space: gs.Space, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], gs.Space]]:
    """All parts that are no Dict and no Tuple, with the way to each."""
    if isinstance(space, gs.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, (*path, key))
    elif isinstance(space, gs.Tuple):
        for number, part in enumerate(space.spaces):
            yield from _parts(part, (*path, number))
    else:
        yield path, space


def _observation_field(space: gs.Space, where: str) -> tuple[FieldSpec, Convert]:
    if isinstance(space, gs.Text) or (space.dtype is not None and space.dtype.kind == "U"):
        return FieldSpec(kind="text"), str
    if isinstance(space, gs.Box):
        if _is_picture(space):
            return _image_field(space)
        if _is_float_box(space):
            return FieldSpec(kind="continuous", shape=space.shape), _as_float
    sizes, starts = _choices(space, where)
    if sizes.max(initial=0) > MAX_DISCRETE:
        raise DataError(
            f"{where}: {space} has {sizes.max()} values, expected at most {MAX_DISCRETE}; observe "
            "it as a Box of floats, or in digits"
        )
    field = FieldSpec(kind="discrete", shape=sizes.shape, num_values=int(sizes.max(initial=1)))
    return field, lambda value: (np.asarray(value, np.int64) - starts).astype(np.int32)


def _as_float(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float32)


def _is_float_box(space: gs.Space) -> bool:
    """Tells whether a space holds numbers rather than choices."""
    if not isinstance(space, gs.Box):
        return False
    if space.dtype is not None and np.dtype(space.dtype).kind == "f":
        return True
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    return bool(high.size) and float(high.max() - low.min()) >= MAX_DISCRETE


def _choices(space: gs.Space, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of values and first values of a discrete space, int64 of its shape."""
    if isinstance(space, gs.Discrete):
        return np.array(int(space.n)), np.array(int(space.start))
    if isinstance(space, gs.MultiDiscrete):
        return np.asarray(space.nvec, np.int64), np.asarray(space.start, np.int64)
    if isinstance(space, gs.MultiBinary):
        return np.full(space.shape, 2), np.zeros(space.shape, np.int64)
    if isinstance(space, gs.Box):
        low = np.asarray(space.low, np.int64)
        return np.asarray(space.high, np.int64) - low + 1, low
    raise DataError(f"{where}: {space} cannot be expressed in tokens, expected {KNOWN}")


def _is_picture(space: gs.Box) -> bool:
    """Tells images apart: (H, W), (H, W, C) or (C, H, W) of uint8 or of floats in 0..1."""
    shape, kind = space.shape, np.dtype(space.dtype)
    if len(shape) == 3:
        sides = shape[1:] if shape[0] < MIN_IMAGE_SIDE else shape[:2]
        is_large = min(sides) >= MIN_IMAGE_SIDE and min(shape[0], shape[2]) <= 16
    else:
        is_large = len(shape) == 2 and min(shape) >= MIN_IMAGE_SIDE
    if not is_large:
        return False
    return kind == np.uint8 or (
        kind.kind == "f" and bool(np.all(space.low == 0.0) and np.all(space.high == 1.0))
    )


def _image_field(space: gs.Box) -> tuple[FieldSpec, Convert]:
    """Pictures as uint8 (H, W, 3) in whole patches: filled with zeros, large ones shrunk.

    Of other channels than three they are what `as_rgb` shows of them.
    """
    shape, is_float = space.shape, np.dtype(space.dtype).kind == "f"
    is_first = len(shape) == 3 and shape[0] < MIN_IMAGE_SIDE
    height, width = shape[1:] if is_first else shape[:2]
    stored = [-(-side // PATCH_SIZE) * PATCH_SIZE for side in (height, width)]
    is_shrunk = math.prod(stored) > MAX_PATCHES * PATCH_SIZE**2
    if is_shrunk:
        factor = math.sqrt(MAX_PATCHES * PATCH_SIZE**2 / (height * width))
        sides = (height, width)
        stored = [max(1, int(side * factor) // PATCH_SIZE) * PATCH_SIZE for side in sides]

    def convert(value: Any) -> np.ndarray:
        pixels = np.asarray(value)
        if is_float:
            pixels = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
        pixels = as_rgb(np.atleast_3d(pixels.transpose(1, 2, 0) if is_first else pixels))
        if is_shrunk:
            image = Image.fromarray(np.ascontiguousarray(pixels))
            return np.asarray(image.resize((stored[1], stored[0]), Image.Resampling.BOX))
        return np.pad(pixels, ((0, stored[0] - height), (0, stored[1] - width), (0, 0)))

    return FieldSpec(kind="image", shape=(*stored, 3)), convert


def _continuous_action(space: gs.Space, parts: Sequence[gs.Box], where: str) -> ActionMap:
    low = np.concatenate([np.asarray(part.low, np.float64).ravel() for part in parts])
    high = np.concatenate([np.asarray(part.high, np.float64).ravel() for part in parts])
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise DataError(
            f"{where}: {space} has no bounds, so that it cannot be rescaled to [-1, 1]; bound it, "
            "for example with gymnasium.wrappers.RescaleAction where it is registered"
        )
    if not (low < high).all():
        raise DataError(f"{where}: {space} has a low that is not below its high")
    shape = parts[0].shape if len(parts) == 1 else (len(low),)

    def to_native(action: Any) -> Any:
        unit = (np.asarray(action, np.float64).ravel() + 1.0) / 2.0
        return _nested(space, np.clip(low + unit * (high - low), low, high))

    def from_native(action: Any) -> np.ndarray:
        flat = _flat(space, action).astype(np.float64)
        margin = 1e-6 * (high - low)
        if not ((flat >= low - margin) & (flat <= high + margin)).all():
            raise DataError(
                f"{where}: got {flat.tolist()}, expected {low.tolist()}..{high.tolist()}; clip it"
            )
        scaled = (flat - low) / (high - low) * 2.0 - 1.0
        return np.clip(scaled, -1.0, 1.0).astype(np.float32).reshape(shape)

    field = FieldSpec(kind="continuous", shape=shape)
    return ActionMap(field=field, to_native=to_native, from_native=from_native)


def _discrete_action(space: gs.Space, parts: Sequence[gs.Space], where: str) -> ActionMap:
    choices = [_choices(part, where) for part in parts]
    sizes = np.concatenate([size.ravel() for size, _ in choices])
    starts = np.concatenate([start.ravel() for _, start in choices])
    joint = math.prod(int(size) for size in sizes)
    if (sizes == sizes[0]).all() and sizes[0] <= MAX_DISCRETE:
        shape = choices[0][0].shape if len(parts) == 1 else (len(sizes),)
        field = FieldSpec(kind="discrete", shape=shape, num_values=int(sizes[0]))

        def to_native(action: Any) -> Any:
            return _nested(space, np.asarray(action, np.int64).ravel() + starts)

        def from_native(action: Any) -> Any:
            flat = _flat(space, action).astype(np.int64) - starts
            _check_choices(flat, sizes, where)
            return int(flat[0]) if shape == () else flat.astype(np.int32).reshape(shape)

    elif joint <= MAX_DISCRETE:
        field = FieldSpec(kind="discrete", num_values=joint)

        def to_native(action: Any) -> Any:
            return _nested(space, np.array(np.unravel_index(int(action), sizes)) + starts)

        def from_native(action: Any) -> int:
            flat = _flat(space, action).astype(np.int64) - starts
            _check_choices(flat, sizes, where)
            return int(np.ravel_multi_index(tuple(flat), tuple(sizes)))

    else:
        raise DataError(
            f"{where}: {space} has {joint:,} combinations of different sizes, expected at most "
            f"{MAX_DISCRETE} or parts of one size; offer fewer actions"
        )
    return ActionMap(field=field, to_native=to_native, from_native=from_native)


def _check_choices(flat: np.ndarray, sizes: np.ndarray, where: str) -> None:
    """Raises DataError unless each choice is one of its values, counted from 0."""
    if flat.shape != sizes.shape or (flat < 0).any() or (flat >= sizes).any():
        raise DataError(
            f"{where}: got {flat.tolist()}, counted from the first value, expected below "
            f"{sizes.tolist()}"
        )


def _flat(space: gs.Space, value: Any) -> np.ndarray:
    """The numbers of a native action in the order of `_parts`."""
    values = []
    for path, _ in _parts(space, ()):
        part = value
        for key in path:
            part = part[key]
        values.append(np.asarray(part).ravel())
    return np.concatenate(values)


def _nested(space: gs.Space, flat: np.ndarray) -> Any:
    """Undoes `_flat`: a native action of the space's own structure and dtypes."""
    rest = iter(np.asarray(flat))

    def build(part: gs.Space) -> Any:
        if isinstance(part, gs.Dict):
            return {key: build(sub) for key, sub in part.spaces.items()}
        if isinstance(part, gs.Tuple):
            return tuple(build(sub) for sub in part.spaces)
        if isinstance(part, gs.Discrete):
            return part.dtype.type(next(rest)) if part.dtype is not None else int(next(rest))
        size = math.prod(part.shape)
        numbers = np.array([next(rest) for _ in range(size)])
        return numbers.astype(part.dtype).reshape(part.shape)

    return build(space)


class StepAdapter:
    """A step of somebody else's environment in the fields of db1, and back.

    Args:
        observation_space: Of the environment.
        action_space: Of the environment.
        where: Named in errors.

    Attributes:
        spec: Fields of one step.
        to_native: Value of the action field -> native action.
        from_native: The reverse.

    Raises:
        DataError: When a space cannot be expressed in tokens, or a step has too many.
    """

    def __init__(self, observation_space: gs.Space, action_space: gs.Space, where: str) -> None:
        self._leaves = observation_leaves(observation_space, where)
        action = action_map(action_space, where)
        self.to_native, self.from_native = action.to_native, action.from_native
        fields = {key: leaf.field for key, leaf in self._leaves.items()}
        self.spec = StepSpec(observation=fields, action=action.field)
        self._where = where
        _check_length(self.spec, where)

    def read(self, observation: Any) -> dict[str, Any]:
        """A native observation by key, arrays of the fields' shapes and dtypes.

        Raises:
            DataError: When it lies outside of its own space.
        """
        values = {}
        for key, leaf in self._leaves.items():
            where = f"{self._where}: observation {key!r}"
            try:
                values[key] = leaf.read(observation)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise DataError(
                    f"{where}: not of the environment's own space ({error!r})"
                ) from None
            leaf.field.check(values[key], where)
        return values


def _check_length(spec: StepSpec, where: str) -> None:
    """Raises DataError when a step has more tokens than a sequence takes."""
    fields = spec.observation.values()
    numbers = sum(f.size for f in fields if f.kind in ("continuous", "discrete"))
    patches = sum(math.prod(f.shape[:2]) // PATCH_SIZE**2 for f in fields if f.kind == "image")
    if numbers + patches >= MOST_TOKENS:
        raise DataError(
            f"{where}: an observation of {numbers} numbers and {patches} image patches, expected "
            f"fewer than {MOST_TOKENS} in all; observe less, with a wrapper where it is registered"
        )
    if spec.action.size > MOST_TOKENS:
        raise DataError(
            f"{where}: actions of {spec.action.size} numbers, expected at most {MOST_TOKENS}"
        )
