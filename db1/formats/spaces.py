"""Gymnasium spaces as Minari writes them in its metadata (JSON) <-> source fields.

Observation keys of nested spaces are joined: Dict by key, Tuple by number.

Example: Dict(goal=Box(3), parts=Tuple(Discrete(4), Text)) gives the keys `goal`, `parts/0` and
`parts/1`; a Box alone is `state`, pictures alone are `pixels`, a Text alone is `text`.

    Box of floats                        continuous
    Box of uint8 pictures                image
    Box of integers, at most 1,024 wide  discrete, shifted by its low
    other Box of integers                continuous
    Discrete, MultiDiscrete, MultiBinary discrete
    Text                                 text

Source: https://minari.farama.org/content/dataset_standards/ ; the JSON of `minari.serialization`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from string import printable
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.formats.fields import MAX_DISCRETE, SourceField, image_field, is_picture
from db1.json_shape import parse_json
from db1.tokens.spec import FieldSpec, StepSpec

Space = Mapping[str, Any]
MAX_DEPTH = 32
MAX_SIZE = 1 << 31
"""Numbers in one array of a step."""
_ALONE = MappingProxyType(
    {"continuous": "state", "discrete": "state", "image": "pixels", "text": "text"}
)


def parse_space(text: Any, where: str) -> Space:
    """The description of a space from its JSON text.

    Raises:
        DataError: No JSON of a space.
    """
    try:
        space = parse_json(text)
        if isinstance(space, dict) and isinstance(space["type"], str):
            return space
    except (TypeError, ValueError, KeyError, RecursionError):
        pass
    raise DataError(f"{where}: not a description of a space: {str(text)[:80]!r}")


def observation_fields(
    space: Space, where: str, *, image_size: int | None = None, frames: str | None = None
) -> dict[str, SourceField]:
    """Field by key of an observation space.

    Raises:
        DataError: A space that db1 has no field for.
    """
    fields = {
        key: leaf_field(leaf, f"{where} {key!r}".strip(), image_size=image_size, frames=frames)
        for key, leaf in _leaves(space, "", where)
    }
    return {_ALONE[field.kind] if key == "" else key: field for key, field in fields.items()}


def flatten_observation(space: Space, values: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Observations nested as the space -> by the keys of `observation_fields`.

    Raises:
        KeyError: A part is missing.
    """
    flat = dict(_flat(space, values, ""))
    return {next(iter(fields)): flat[""]} if "" in flat else flat


def nest_observation(space: Space, flat: Mapping[str, Any], key: str = "") -> Any:
    """Undoes `flatten_observation`."""
    if space["type"] == "Dict":
        items = space["subspaces"].items()
        return {name: nest_observation(sub, flat, _join(key, name)) for name, sub in items}
    if space["type"] == "Tuple":
        items = enumerate(space["subspaces"])
        return tuple(nest_observation(sub, flat, _join(key, str(i))) for i, sub in items)
    return flat[key] if key else next(iter(flat.values()))


def leaf_field(
    space: Space, where: str, *, image_size: int | None = None, frames: str | None = None
) -> SourceField:
    """The field of a space that is no Dict and no Tuple.

    Raises:
        DataError: An unknown space, more than 1,024 values, or a broken description.
    """
    if space["type"] not in _LEAVES:
        raise DataError(f"{where}: a {space['type']} space, expected one of {sorted(_LEAVES)}")
    with _broken(space, where):
        field = _LEAVES[space["type"]](space)
    if (field.num_values or 0) > MAX_DISCRETE:
        raise DataError(
            f"{where}: {field.num_values} discrete values, expected at most {MAX_DISCRETE}"
        )
    if field.kind == "image":
        return image_field(field.shape, image_size=image_size, frames=frames, where=where)
    return field


def action_of(space: Space, where: str) -> SourceField:
    """The field of an action space, with its bounds.

    Raises:
        DataError: A space that is neither discrete nor a Box of floats.
    """
    if space["type"] in ("Dict", "Tuple", "Text"):
        raise DataError(
            f"{where}: a {space['type']} space, expected Box, Discrete, MultiDiscrete or "
            "MultiBinary: db1 has one action field a step"
        )
    field = leaf_field(space, where)
    if field.kind == "image":
        raise DataError(f"{where}: actions that are pictures")
    if space["type"] == "Box" and field.kind == "continuous":
        with _broken(space, where):
            low, high = (_bound(space, key, field.shape) for key in ("low", "high"))
        return field.with_bounds(low, high, where)
    return field


@contextmanager
def _broken(space: Space, where: str) -> Iterator[None]:
    """Turns what a broken description of a space leads to into a DataError."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{where}: the {space['type']} space has no {error.args[0]!r}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{where}: a broken {space['type']} space ({error})") from None


def _bound(space: Space, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """`low` or `high` of a Box: one number, or one for each number of its shape."""
    bound = np.asarray(space[key], np.float64)
    if bound.shape not in ((), shape):
        raise ValueError(
            f"{key} has {bound.size} numbers of shape {bound.shape}, the shape is {shape}"
        )
    return bound


def space_of_spec(spec: StepSpec) -> tuple[Space, Space]:
    """Observation and action space of a step spec: what the store holds as it is."""
    observation = {key: _space_of_field(field) for key, field in spec.observation.items()}
    return {"type": "Dict", "subspaces": observation}, _space_of_field(spec.action, -1.0, 1.0)


def _space_of_field(field: FieldSpec, low: float = -np.inf, high: float = np.inf) -> Space:
    if field.kind == "text":
        return {"type": "Text", "max_length": 1 << 20, "min_length": 0, "charset": printable}
    if field.kind == "image":
        return _box(field.shape, "uint8", 0, 255)
    if field.kind == "continuous":
        return _box(field.shape, "float32", low, high)
    if field.shape == ():
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": field.num_values}
    return {
        "type": "MultiDiscrete",
        "dtype": "int32",
        "nvec": np.full(field.shape, field.num_values).tolist(),
        "start": np.zeros(field.shape, np.int64).tolist(),
    }


def _box(shape: tuple[int, ...], dtype: str, low: float, high: float) -> Space:
    bounds = {"low": np.full(shape, low).tolist(), "high": np.full(shape, high).tolist()}
    return {"type": "Box", "dtype": dtype, "shape": list(shape), **bounds}


def _join(key: str, name: str) -> str:
    return f"{key}/{name}" if key else name


def _parts(space: Space) -> list[tuple[str, Space]]:
    parts = space["subspaces"]
    if space["type"] == "Dict":
        return list(parts.items())
    return [(str(i), part) for i, part in enumerate(parts)]


def _leaves(space: Any, key: str, where: str, depth: int = 0) -> list[tuple[str, Space]]:
    if depth > MAX_DEPTH:
        raise DataError(f"{where}: spaces inside spaces, more than {MAX_DEPTH} deep")
    if not isinstance(space, Mapping) or not isinstance(space.get("type"), str):
        raise DataError(f"{where} {key!r}: not a description of a space: {str(space)[:80]!r}")
    if space["type"] not in ("Dict", "Tuple"):
        return [(key, space)]
    expected = dict if space["type"] == "Dict" else list
    if not isinstance(space.get("subspaces"), expected):
        raise DataError(f"{where} {key!r}: a {space['type']} space without subspaces")
    return [
        leaf
        for name, part in _parts(space)
        for leaf in _leaves(part, _join(key, name), where, depth + 1)
    ]


def _flat(space: Space, values: Any, key: str) -> list[tuple[str, Any]]:
    if space["type"] not in ("Dict", "Tuple"):
        return [(key, values)]
    is_tuple = space["type"] == "Tuple"
    return [
        leaf
        for name, part in _parts(space)
        for leaf in _flat(part, values[int(name) if is_tuple else name], _join(key, name))
    ]


def _box_field(space: Space) -> SourceField:
    dtype = np.dtype(space["dtype"])
    shape = _shape(space["shape"])
    if dtype.kind == "f":
        return SourceField(kind="continuous", shape=shape, dtype=dtype.name)
    if dtype.kind not in "iub":
        raise ValueError(f"dtype {dtype}")
    if dtype == np.uint8 and is_picture(shape):
        return SourceField(kind="image", shape=shape, dtype="uint8")
    low, high = (int(find(space[key])) for find, key in ((np.min, "low"), (np.max, "high")))
    if low > high:
        raise ValueError(f"low {low} above high {high}")
    if high - low >= MAX_DISCRETE:
        return SourceField(kind="continuous", shape=shape, dtype=dtype.name)
    return SourceField(
        kind="discrete", shape=shape, num_values=high - low + 1, start=low, dtype=dtype.name
    )


def _shape(sizes: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in sizes)
    if any(n < 1 for n in shape) or math.prod(shape) > MAX_SIZE:
        raise ValueError(f"shape {shape}, expected sizes from 1 on, {MAX_SIZE:,} in all")
    return shape


def _discrete_field(space: Space) -> SourceField:
    return SourceField(
        kind="discrete",
        num_values=_at_least_1(space, "n"),
        start=int(space["start"]),
        dtype="int64",
    )


def _at_least_1(space: Space, key: str) -> int:
    if int(space[key]) < 1:
        raise ValueError(f"{key} {space[key]}, expected at least 1")
    return int(space[key])


def _multi_discrete_field(space: Space) -> SourceField:
    sizes, starts = np.array(space["nvec"], np.int64), np.array(space["start"], np.int64)
    if not sizes.size or sizes.min() < 1:
        raise ValueError(f"nvec {space['nvec']}, expected sizes of at least 1")
    if starts.any():
        raise ValueError("starts other than 0")
    return SourceField(
        kind="discrete", shape=sizes.shape, num_values=int(sizes.max()), dtype=space["dtype"]
    )


def _multi_binary_field(space: Space) -> SourceField:
    shape = _shape(np.atleast_1d(np.array(space["n"], np.int64)))
    return SourceField(kind="discrete", shape=shape, num_values=2, dtype="int8")


def _text_field(space: Space) -> SourceField:
    return SourceField(kind="text")


_LEAVES: Mapping[str, Callable[[Space], SourceField]] = MappingProxyType(
    {
        "Box": _box_field,
        "Discrete": _discrete_field,
        "MultiDiscrete": _multi_discrete_field,
        "MultiBinary": _multi_binary_field,
        "Text": _text_field,
    }
)
