"""Work in a thread whose pieces a web response hands on as they come.

A simulator's drawing belongs to one thread, so all episodes run in the same one. When nobody reads
any more, the next piece raises `Closed` inside the work.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any

from db1.errors import Db1Error

logger = logging.getLogger(__name__)

_WAITING = 8
"""Pieces that wait for a slow reader."""


class Closed(Exception):
    """Nobody reads the pieces any more."""


async def json_lines(
    work: Callable[[Callable[[dict[str, Any]], None]], None], threads: Executor
) -> AsyncIterator[str]:
    """Runs `work(emit)` in one of the threads; yields each emitted piece as one line of JSON.

    What the work raises becomes a last line {"error"}.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    room, closed = threading.Semaphore(_WAITING), threading.Event()

    def put(line: str | None) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, line)

    def emit(piece: dict[str, Any]) -> None:
        while not room.acquire(timeout=0.2):
            if closed.is_set():
                raise Closed
        if closed.is_set():
            raise Closed
        put(json.dumps(piece, allow_nan=False) + "\n")

    def run() -> None:
        try:
            work(emit)
        except Closed:
            pass
        except Exception as error:
            put(json.dumps({"error": message_of(error)}) + "\n")
        finally:
            if not loop.is_closed():
                put(None)

    threads.submit(run)
    try:
        while (line := await lines.get()) is not None:
            room.release()
            yield line
    finally:
        closed.set()


def message_of(error: Exception) -> str:
    """Message of an error for the page: db1's own words, or the name of a bug that is logged."""
    if isinstance(error, Db1Error):
        return str(error)
    logger.error("a request failed", exc_info=error)
    return f"{type(error).__name__}: {error}"
