"""The string table of an episode store: texts on disk, named by number, read one at a time.

    strings.jsonl       one JSON string a line, ASCII
    strings.ends.bin    uint64, where each line ends (stores of version 1 have none: scanned for)

A text may stand in the table more than once: the writer remembers the latest ones only, so that a
store of millions of different texts needs no more memory than one of a few.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice, pairwise
from operator import ge
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.json_shape import parse_json
from db1.store.files import Ends, StoreFile

STRINGS_FILE = "strings.jsonl"
STRING_ENDS_FILE = "strings.ends.bin"
MAX_REMEMBERED = 65_536
_CHUNK = 1 << 22
_MAX_LINES_BYTES = 1 << 31


def json_line(text: str) -> bytes:
    """A line of the string table, ASCII."""
    return (json.dumps(text) + "\n").encode("ascii")


class StringTable:
    """Reads texts by number.

    Args:
        path: Folder of the store.
        has_ends: Whether the store keeps a file of ends (from version 2 on).
    """

    def __init__(self, path: Path, has_ends: bool = True) -> None:
        self.lines_file = StoreFile(path / STRINGS_FILE)
        self.ends = Ends(path / STRING_ENDS_FILE, self.lines_file)
        self._has_ends = has_ends
        self._scanned: np.ndarray | None = None
        self.text = lru_cache(maxsize=MAX_REMEMBERED)(self._text)

    def __len__(self) -> int:
        """Number of complete lines."""
        return self.ends.num_complete() if self._has_ends else len(self._scanned_ends()) - 1

    def line(self, number: int) -> bytes:
        """Returns the stored line of text `number`; raises DataError where there is none."""
        return self.lines(number, number + 1)[0]

    def lines(self, first: int, last: int) -> list[bytes]:
        """Returns the stored lines of the texts [first, last).

        Raises:
            DataError: There are not that many lines.
        """
        if self._has_ends:
            bounds = self.ends.bounds(first, last).tolist()
        else:
            bounds = self._scanned_ends()[first : last + 1].tolist()
        if len(bounds) <= last - first or any(map(ge, bounds, bounds[1:])):
            raise self._damaged(first, "no such line")
        if bounds[-1] - bounds[0] > _MAX_LINES_BYTES:
            raise self._damaged(first, f"{bounds[-1] - bounds[0]} bytes")
        content = self.lines_file.read(bounds[0], bounds[-1] - bounds[0])
        return [content[i - bounds[0] : j - bounds[0]] for i, j in pairwise(bounds)]

    def _text(self, number: int) -> str:
        line = self.line(number)
        try:
            text = parse_json(line)
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise self._damaged(number, f"got {line[:40]!r}, expected a JSON string")
        return text

    def _scanned_ends(self) -> np.ndarray:
        """0 and the end of every complete line, int64; found once, without parsing."""
        if self._scanned is None:
            parts, size = [np.zeros(1, np.int64)], self.lines_file.size()
            for start in range(0, size, _CHUNK):
                chunk = self.lines_file.read(start, min(_CHUNK, size - start))
                found = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
                parts.append(found + start + 1)
            self._scanned = np.concatenate(parts)
        return self._scanned

    def _damaged(self, number: int, what: str) -> DataError:
        return DataError(
            f"{self.lines_file.path} line {number + 1}: {what}; the store is damaged, make it again"
        )


class StringNumbers:
    """The writer's side: which number the latest texts have.

    Args:
        table: The store's complete texts.
        num_strings: How many of them there are.
    """

    def __init__(self, table: StringTable, num_strings: int) -> None:
        self.num_strings = num_strings
        first = max(0, num_strings - MAX_REMEMBERED)
        self._numbers = {table.text(i): i for i in range(first, num_strings)}

    def add(self, texts: Iterable[str]) -> list[str]:
        """Gives a number to each text that has none yet and returns those texts in order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._numbers]
        for text in new:
            self._numbers[text] = self.num_strings
            self.num_strings += 1
        return new

    def take_back(self, new: list[str]) -> None:
        """Forgets what the last `add` returned."""
        for text in new:
            del self._numbers[text]
        self.num_strings -= len(new)

    def forget_old(self) -> None:
        """Drops the oldest texts beyond the limit; called between two episodes."""
        surplus = len(self._numbers) - MAX_REMEMBERED
        for text in list(islice(self._numbers, max(0, surplus))):
            del self._numbers[text]

    def numbers(self, texts: np.ndarray) -> np.ndarray:
        """Numbers of texts that were added: object (...,) -> uint32 (...,)."""
        flat = [self._numbers[text] for text in texts.flat]
        return np.array(flat, dtype="<u4").reshape(texts.shape)
