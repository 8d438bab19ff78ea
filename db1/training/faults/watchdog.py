"""Finds the process of a training that hangs, and ends the run with its name.

Every process tells a thread of its own what it does; the thread writes that, with a growing number,
into a small file in the run folder, which all processes see:

    heartbeat/rank-00001.json   {"beat": 17, "progress": 42, "doing": "step 7: reading", ...}

A process whose own work makes no progress for `hang_timeout` seconds looks at all files twice. A
beat that does not grow is a process that does not run any more; else the one that is not waiting
for others, or is behind them, is the one that hangs. The main thread may be stuck in a collective
operation for ever, so the process ends at once (`EXIT_HUNG`) and the launcher ends the others.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from db1.json_shape import parse_json_file
from db1.training.processes import Processes

logger = logging.getLogger(__name__)

FOLDER = "heartbeat"
EXIT_HUNG = 3
"""Exit status of a run that ended because one of its processes hung or was lost."""

State = Mapping[str, Any]


class Watchdog:
    """A context manager around the work of one process of several; alone it does nothing.

    Progress is a call of `now`, and every word that the processes exchange.

    Args:
        run_folder: The run.
        processes: This process and the others.
        timeout: Seconds without progress; 0 switches it off.
        end: Ends the process with a status.

    Attributes:
        is_under_way: Set after the first step; until then ten times as long is allowed, for
            loading and compiling.
    """

    def __init__(
        self,
        run_folder: Path,
        processes: Processes,
        timeout: float,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self._folder = run_folder / FOLDER
        self._processes = processes
        self._timeout = timeout
        self._interval = min(max(timeout / 10, 0.1), 10.0)
        self._end = end
        self._is_on = timeout > 0 and processes.world_size > 1
        self.is_under_way = False
        self._doing = "starting"
        self._calls = 0
        self._beat = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def now(self, doing: str) -> None:
        """Tells what this process does next; each call is progress.

        Args:
            doing: `step 7: reading`.
        """
        self._doing = doing
        self._calls += 1

    @property
    def _progress(self) -> int:
        return self._calls + self._processes.num_words

    def __enter__(self) -> Watchdog:
        if self._is_on:
            with suppress(OSError):  # a full disk is for the checkpoints to tell of
                self._folder.mkdir(exist_ok=True)
            self._write()
            self._processes.barrier()  # all files are of this launch
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread:
            self._stopped.set()
            self._thread.join()

    def _watch(self) -> None:
        seen, since, last = self._progress, time.monotonic(), time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            slept = now - last > 5 * self._interval + 5  # the whole job was suspended
            last = now
            self._write()
            if self._progress != seen or slept:
                seen, since = self._progress, now
            elif now - since > self._timeout * (1 if self.is_under_way else 10):
                self._judge(now - since)
                since = last = time.monotonic()  # another process works on

    def _judge(self, seconds: float) -> None:
        """Ends the process when no process makes progress."""
        before = self._read_all()
        for _ in range(4):
            if self._stopped.wait(self._interval):
                return
            self._write()
        after = self._read_all()
        if any(_progress(after[rank]) != _progress(before[rank]) for rank in after):
            return
        frozen = [rank for rank in after if _beat(after[rank]) == _beat(before[rank])]
        live = [rank for rank in after if rank not in frozen]
        if live and self._processes.rank != live[0]:
            time.sleep(1.0)  # the first one speaks for all
            self._end(EXIT_HUNG)
            return
        message = describe_hang(after, frozen, seconds)
        sys.stderr.write(f"error: {message}\n")
        sys.stderr.flush()
        self._end(EXIT_HUNG)

    def _write(self) -> None:
        self._beat += 1
        state = {
            "beat": self._beat,
            "progress": self._progress,
            "doing": self._doing,
            "waiting": self._processes.is_waiting,
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        path = self._path(self._processes.rank)
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(state), encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            logger.debug("%s: %s", path, error)

    def _read_all(self) -> dict[int, State | None]:
        return {rank: self._read(rank) for rank in range(self._processes.world_size)}

    def _read(self, rank: int) -> State | None:
        try:
            return parse_json_file(self._path(rank))
        except (OSError, ValueError):
            return None

    def _path(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05d}.json"


def hung_ranks(states: Mapping[int, State | None], frozen: Sequence[int]) -> list[int]:
    """The processes that the others wait for.

    Args:
        states: What each process said last.
        frozen: Those whose beat does not grow.

    Returns:
        The frozen ones; else those that wait for nobody, of these the ones that are most behind.
    """
    if frozen:
        return list(frozen)
    busy = [rank for rank, state in states.items() if state and not state["waiting"]]
    candidates = busy or list(states)
    least = min(_progress(states[rank]) for rank in candidates)
    return [rank for rank in candidates if _progress(states[rank]) == least]


def describe_hang(states: Mapping[int, State | None], frozen: Sequence[int], seconds: float) -> str:
    """One line: who hangs, doing what, and what to do.

    Args:
        states: What each process said last.
        frozen: Those whose beat does not grow.
        seconds: Time without progress.
    """
    hung = hung_ranks(states, frozen)
    why = "it does not run any more (stopped, or its machine is gone)"
    parts = []
    for rank in hung:
        state = states[rank]
        name = f"rank {rank}"
        if state:
            name += f" (pid {state['pid']} on {state['host']}) at {state['doing']!r}"
        parts.append(f"{name}: {why}" if rank in frozen else name)
    others = [f"rank {r} at {s['doing']!r}" for r, s in states.items() if r not in hung and s]
    shown = ", ".join(others[:4]) + (" ..." if len(others) > 4 else "")
    waiting = f"; waiting for it: {shown}" if others else ""
    verb = "hangs" if len(hung) == 1 else "hang"
    return (
        f"no progress for {seconds:.0f} s (training.hang_timeout); what {verb}: "
        f"{'; '.join(parts)}{waiting}; checkpoints are unharmed, the same command goes on from the "
        "newest"
    )


def _progress(state: State | None) -> int:
    return -1 if state is None else state["progress"]


def _beat(state: State | None) -> int:
    return -1 if state is None else state["beat"]
