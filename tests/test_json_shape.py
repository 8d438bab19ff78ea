"""JSON of another kind or shape is one line that names file and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from db1.errors import CheckpointError, DataError
from db1.json_shape import Number, check_shape, parse_json, seal, unseal

SHAPE = {
    "name": str,
    "tasks": {str: {"returns": [Number], "success?": (bool, type(None))}},
    "note?": (str, type(None)),
}
GOOD = {"name": "a", "tasks": {"t": {"returns": [1, 2.5], "success": None, "more": []}}, "x": 1}


def _with(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def test_accepts_the_shape_and_further_keys() -> None:
    check_shape(GOOD, SHAPE, "f.json")
    check_shape(_with(tasks={}, note="x"), SHAPE, "f.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "f.json: the content is a list of 0, expected an object"),
        (None, "f.json: the content is null, expected an object"),
        ({"tasks": {}}, "f.json: name is missing, expected a text"),
        (_with(name=3), "f.json: name is 3, expected a text"),
        (_with(tasks=[]), "f.json: tasks is a list of 0, expected an object"),
        (_with(tasks={"t": 1}), "f.json: tasks.t is 1, expected an object"),
        (_with(tasks={"t": {}}), "f.json: tasks.t.returns is missing, expected a list"),
        (
            _with(tasks={"t": {"returns": [1, "x"]}}),
            'f.json: tasks.t.returns[1] is "x", expected a whole number or a number',
        ),
        (_with(tasks={"t": {"returns": [True]}}), "returns[0] is true, expected a whole number"),
        (
            _with(tasks={"t": {"returns": [], "success": 1}}),
            "f.json: tasks.t.success is 1, expected true or false or null",
        ),
    ],
)
def test_names_the_place(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        check_shape(value, SHAPE, "f.json")
    assert message in str(caught.value)


def test_raises_the_class_that_is_asked_for() -> None:
    with pytest.raises(CheckpointError):
        check_shape([], {str: int}, "f.json", CheckpointError)


def test_any_depth_is_a_value_error() -> None:
    assert parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 500_000)


def test_sealed_content_tells_of_changes() -> None:
    content = {"b": [1.5, None], "a": {"10": 1, "9": 2}}
    sealed = parse_json(json.dumps(seal({"b": [1.5, None], "a": {10: 1, 9: 2}})))
    assert unseal(sealed) == (content, True)
    assert unseal(content) == (content, True)
    assert unseal(sealed | {"b": [1.25, None]})[1] is False
    assert unseal(sealed | {"checksum": "0"})[1] is False
