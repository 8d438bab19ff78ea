"""JSON of files that people share: parsed without surprises, and checked for its shape.

    parse_json(text)                                     as json.loads, for any depth
    parse_json_file(path)                                the same of a file
    check_shape(content, {"tasks": {str: {"returns": [Number]}}}, path)

A shape is a type, a tuple of shapes (one of them), `[shape]` (a list of such), `[shape, shape]` (a
list of exactly two), `{str: shape}` (a mapping with such values), or `{"key": shape, "other?":
shape}` (these keys; `?`: may be missing; further keys are left alone).

    seal(content)          content with a checksum of itself, for files that nobody writes by hand
    unseal(sealed)         the content, and whether it is as it was sealed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db1.errors import DataError, Db1Error
from db1.files import read_text

Number = (int, float)
CHECKSUM = "checksum"
_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def parse_json(text: str | bytes) -> Any:
    """Parses a JSON text.

    Raises:
        ValueError: No JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Content with a checksum of itself (SHA-256 of its JSON with sorted keys) as the last key."""
    return {**content, CHECKSUM: _checksum(content)}


def unseal(content: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Undoes `seal`.

    Returns:
        The content without its checksum, and False where it differs from it; files of an older db1
        have none and pass.
    """
    bare = {key: value for key, value in content.items() if key != CHECKSUM}
    return bare, content.get(CHECKSUM) in (None, _checksum(bare))


def _checksum(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # numbers as keys become texts before they are sorted
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_json_file(path: Path | str) -> Any:
    """Parses a file of JSON.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: No JSON.
    """
    return parse_json(read_text(path))


def check_shape(
    value: Any, shape: Any, where: Any, error: type[Db1Error] = DataError, place: str = ""
) -> None:
    """Checks that a parsed JSON value has a shape, see the module's docstring.

    Args:
        value: What `parse_json` gave.
        shape: What it must look like.
        where: The file, for the message.
        error: The class to raise.
        place: Of the value in the file, for the message.

    Raises:
        Db1Error: Of the class `error`, naming the file, the place, and what was expected there.
    """
    found = _misfit(value, shape, place)
    if found is not None:
        place, got, expected = found
        shown = _shown(got)
        raise error(f"{where}: {place or 'the content'} is {shown}, expected {expected}")


def _misfit(value: Any, shape: Any, place: str) -> tuple[str, Any, str] | None:
    """Place, value and expectation of the first thing that does not fit; None where all does."""
    if isinstance(shape, tuple):
        misfits = [_misfit(value, one, place) for one in shape]
        if None in misfits:
            return None
        inner = next((m for m in misfits if m is not None and m[0] != place), None)
        return inner or (place, value, " or ".join(_described(one) for one in shape))
    if isinstance(shape, list):
        if not isinstance(value, list):
            return place, value, _NAMES[list]
        if len(shape) > 1 and len(value) != len(shape):
            return place, value, f"a list of {len(shape)}"
        parts = [(one, shape[0], f"{place}[{i}]") for i, one in enumerate(value)]
    elif isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return place, value, _NAMES[dict]
        parts = _members(value, shape, place)
    else:
        is_right = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
        return None if is_right else (place, value, _described(shape))
    return next((m for part in parts if (m := _misfit(*part)) is not None), None)


class _Missing:
    """Stands for a key that is not there."""


def _members(
    value: Mapping[str, Any], shape: Mapping[Any, Any], place: str
) -> list[tuple[Any, Any, str]]:
    dot = f"{place}." if place else ""
    if str in shape:
        return [(one, shape[str], f"{dot}{key}") for key, one in value.items()]
    parts = []
    for key, one in shape.items():
        name = key.removesuffix("?")
        if name in value or name == key:
            parts.append((value.get(name, _Missing()), one, f"{dot}{name}"))
    return parts


def _described(shape: Any) -> str:
    if isinstance(shape, list):
        return _NAMES[list]
    if isinstance(shape, Mapping):
        return _NAMES[dict]
    return _NAMES.get(shape, getattr(shape, "__name__", str(shape)))


def _shown(value: Any) -> str:
    if isinstance(value, _Missing):
        return "missing"
    if isinstance(value, dict | list):
        return f"{_NAMES[type(value)]} of {len(value)}"
    return json.dumps(value)[:60]
