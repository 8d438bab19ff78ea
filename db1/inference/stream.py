"""Written ids -> text piece by piece: only whole characters are shown, and no stop text.

ids        a   b1  b2  c   S   T        b1 b2: halves of one character; "ST" stops
shown      a       b   c                "S" is held back until the next id tells
"""

from __future__ import annotations

from collections.abc import Sequence

from db1.errors import ConfigError
from db1.tokens.text import TextTokenizer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Turns ids into text as they are written.

    The shown pieces, joined, are `text`, whatever the ids: a character whose bytes lie in several
    ids is held back until its last byte, and what may be the start of a stop text until it is not.

    Args:
        tokenizer: Text <-> ids.
        stops: Texts that end the writing; they do not belong to `text`.

    Raises:
        ConfigError: For an empty stop text.
    """

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str] = ()) -> None:
        if not all(stops):
            raise ConfigError("stop: got an empty text, expected at least one character")
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._unread: list[int] = []
        self._held = ""
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Takes the next id (of the tokenizer); returns the text that it lets show."""
        self._unread.append(token)
        decoded = self._tokenizer.decode(self._unread)
        if decoded.endswith(_INCOMPLETE):
            return ""
        self._unread.clear()
        return self._show(decoded, last=False)

    def finish(self) -> str:
        """The text still held back, when no id follows."""
        decoded = self._tokenizer.decode(self._unread)
        self._unread.clear()
        return self._show(decoded, last=True)

    def _show(self, decoded: str, last: bool) -> str:
        if self.stopped:
            return ""
        waiting = self._held + decoded
        found = [place for place in map(waiting.find, self._stops) if place >= 0]
        if found:
            self.stopped = True
            shown, self._held = waiting[: min(found)], ""
        else:
            size = 0 if last else self._size_of_start(waiting)
            shown, self._held = waiting[: len(waiting) - size], waiting[len(waiting) - size :]
        self.text += shown
        return shown

    def _size_of_start(self, text: str) -> int:
        """Characters at the end of `text` that may be the start of a stop text."""
        longest = 0
        for stop in self._stops:
            sizes = range(1, min(len(stop) - 1, len(text)) + 1)
            longest = max([longest, *(size for size in sizes if text.endswith(stop[:size]))])
        return longest
