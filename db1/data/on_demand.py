"""Stores that each process opens when it first needs them."""

from __future__ import annotations

import pickle
from typing import Any, Generic, TypeVar

Opened = TypeVar("Opened")


class OnDemand(Generic[Opened]):
    """Something that pickles as a note of how to open it again, and is opened when asked for.

    A mixture of thousands of stores reaches a spawned reader process in milliseconds; the process
    then opens those that it draws from.

    Args:
        opened: What is open in this process.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened: Opened | None = opened
        self._pickled = b""

    def __call__(self) -> Opened:
        """Returns what is open."""
        if self._opened is None:
            self._opened = pickle.loads(self._pickled)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        pickled = self._pickled if self._opened is None else pickle.dumps(self._opened)
        return {"_opened": None, "_pickled": pickled}
