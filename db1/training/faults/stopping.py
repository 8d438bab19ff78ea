"""SIGTERM, which clusters send before they take a machine back: the run saves and ends."""

from __future__ import annotations

import signal
import threading
from types import TracebackType


class StopRequest:
    """A context manager in which SIGTERM asks for a stop instead of ending the process.

    Only a main thread can listen; in any other thread nothing changes.

    Attributes:
        asked: True once the signal came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._listens = False

    def __enter__(self) -> StopRequest:
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
