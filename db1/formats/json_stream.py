"""Reads the arrays of a large JSON file element by element.

    {"info": {...}, "images": [{...}, {...}], "annotations": [{...}, ...]}
                               -----  -----

An annotation file of hundreds of MB needs as much memory as its longest element and a chunk.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from db1.errors import DataError

_CHUNK = 1 << 18
_MAX_ELEMENT = 1 << 26
"""Characters; an element that goes on for longer is broken JSON."""
_SPACE = " \t\n\r"


def json_elements(file: Path, key: str) -> Iterator[Any]:
    """Yields the elements of the array under a key of a file's top-level object.

    Raises:
        DataError: The file is missing, no UTF-8, no JSON object, cut off, or has no such array.
    """
    try:
        with open(file, "rb") as stream:
            yield from _Reader(file, stream).elements(key)
    except OSError as error:
        raise DataError(f"{file}: cannot read it ({error})") from None


class _Reader:
    """A window on the text of one file.

    Args:
        file: Named in errors.
        stream: Its bytes.
    """

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self._file = file
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scanner = json.JSONDecoder()
        self._text = ""
        self._place = 0
        self._num_bytes = 0
        self._at_end = False

    def elements(self, key: str) -> Iterator[Any]:
        """See `json_elements`."""
        keys = []
        self._expect("{")
        if self._peek() != "}":
            while True:
                found = self._value()
                self._expect(":")
                keys.append(found)
                if found == key:
                    yield from self._array()
                    return
                if self._peek() == "[":
                    for _ in self._array():
                        pass
                else:
                    self._value()
                if self._peek() != ",":
                    break
                self._expect(",")
        raise DataError(f"{self._file}: no array {key!r}, only the keys {keys}; give another file")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        if self._peek() == "]":
            self._expect("]")
            return
        while True:
            yield self._value()
            if self._peek() == "]":
                self._expect("]")
                return
            self._expect(",")

    def _value(self) -> Any:
        """Parses one value, reading on while it is cut off by the window's end."""
        self._peek()
        while True:
            try:
                value, end = self._scanner.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if self._at_end or len(self._text) - self._place > _MAX_ELEMENT:
                    raise self._broken(str(error)) from None
            else:
                if end + len(".e+") < len(self._text) or self._at_end:  # else a number may go on
                    self._place = end
                    return value
            self._read()

    def _expect(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise self._broken(f"got {found!r}, expected {character!r}")
        self._place += 1

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _SPACE:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if self._at_end:
                return ""
            self._read()

    def _read(self) -> None:
        """Drops what was parsed and reads at least as much as what is left."""
        content = self._stream.read(max(_CHUNK, len(self._text) - self._place))
        self._at_end = not content
        try:
            text = self._decoder.decode(content, final=self._at_end)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._file}: not UTF-8 near byte {self._num_bytes + error.start} "
                f"({error.reason}); convert the file"
            ) from None
        self._num_bytes += len(content)
        self._text = self._text[self._place :] + text
        self._place = 0

    def _broken(self, what: str) -> DataError:
        return DataError(
            f"{self._file}: broken or cut off JSON before byte {self._num_bytes} ({what}); get the "
            "file again"
        )
