"""Arrays inside JSON files are read element by element, whatever the chunks cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db1.errors import DataError
from db1.formats import json_stream
from db1.formats.json_stream import json_elements

CONTENT = {
    "info": {"year": 2014, "notes": ["[", "{"]},
    "skipped": [1, [2, 3], {"annotations": [4]}],
    "empty": [],
    "number": -1.5e3,
    "annotations": [{"id": i, "caption": f'café ☃ "{i}"'} for i in range(40)] + [12345678, None],
    "after": [1],
}


@pytest.fixture(params=[1, 7, 64, 1 << 18])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_stream, "_CHUNK", request.param)
    return request.param


@pytest.mark.parametrize("options", [{}, {"ensure_ascii": False, "indent": 2}])
def test_elements_of_each_array(tmp_path: Path, chunk: int, options: dict) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(CONTENT, **options), encoding="utf-8")
    for key in ("annotations", "skipped", "empty", "after"):
        assert list(json_elements(file, key)) == CONTENT[key]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(CONTENT).encode())
    assert list(json_elements(file, "after")) == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"x": [1]}', r"no array 'annotations', only the keys \['x'\]"),
        (b"{}", "no array 'annotations'"),
        (b"[1, 2]", "got '\\[', expected '{'"),
        (b"", "got '', expected '{'"),
        (b'{"annotations": [1, 2', "got '', expected ','"),
        (b'{"annotations": [{"a": 1}, {"a"', "broken or cut off JSON"),
        (b'{"annotations": {"a": 1}}', "got '{', expected '\\['"),
        (b'{"annotations": ["caf\xe9"]}', "not UTF-8 near byte 21"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "captions.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"captions.json: .*{message}"):
        list(json_elements(file, "annotations"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json: cannot read it"):
        list(json_elements(tmp_path / "none.json", "x"))
