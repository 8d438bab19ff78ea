"""One training a run folder: a lock that the system frees at death, and a heartbeat for the rest.

    <run>/lock.json   {"host": "node-3", "pid": 4711, "started": "...", "command": ..., "beat": 17}

The file is locked (flock) while its training lives. On one machine, and on shared file systems that
lock across machines, that alone decides. Where the system lets a second machine have the lock, too,
the beat does: it grows every few seconds while its training lives, so that a second one watches it
for a while before it takes the run over. No clock of two machines is ever compared.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import shlex
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from db1.errors import ConfigError
from db1.failures import writing
from db1.locks import try_lock, unlock

logger = logging.getLogger(__name__)

FILE = "lock.json"
BEAT_SECONDS = 5.0
WATCH_SECONDS = 4 * BEAT_SECONDS


class RunLock:
    """Holds a run folder until `release`, or until this process is gone.

    Args:
        run_folder: The run; is made where it is missing.
        beat_seconds: Time from one beat to the next.
        watch_seconds: How long another machine's beat is watched.
    """

    def __init__(
        self,
        run_folder: Path,
        beat_seconds: float = BEAT_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._folder = run_folder
        self._beat_seconds, self._watch_seconds = beat_seconds, watch_seconds
        self._descriptor: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat = 0
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")

    def acquire(self) -> RunLock:
        """Takes the run, or refuses.

        Raises:
            ConfigError: Another training of this run is alive; names it.
            WriteError: The folder cannot be written.
        """
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / FILE
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.register_at_fork(after_in_child=self._forget)  # readers must not hold the lock
        try:
            if not self._lock() or self._beats_elsewhere():
                raise ConfigError(self._held_by())
            with writing(self._folder):
                self._write()
        except BaseException:
            self._forget()
            raise
        self._thread = threading.Thread(target=self._keep_beating, name="run lock", daemon=True)
        self._thread.start()
        return self

    def release(self) -> None:
        """Lets the run go; the file stays, without a holder."""
        if self._descriptor is None:
            return
        self._ended.set()
        if self._thread:
            self._thread.join()
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        unlock(self._descriptor)
        self._forget()

    def __enter__(self) -> RunLock:
        return self if self._descriptor is not None else self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _lock(self) -> bool:
        """True when the system gave the lock, or this file system has none."""
        assert self._descriptor is not None
        return try_lock(self._descriptor, self._folder)

    def _beats_elsewhere(self) -> bool:
        """Tells whether a training on another machine is alive, by its beat."""
        holder = self._read()
        if not holder or holder.get("host") == socket.gethostname():
            return False  # of this machine, where the system's word counts
        logger.warning(
            "%s: last trained on %s; watching for %.0f s whether that training is alive",
            self._folder, holder.get("host"), self._watch_seconds,
        )  # fmt: skip
        until = time.monotonic() + self._watch_seconds
        while time.monotonic() < until:
            time.sleep(self._beat_seconds / 5)
            now = self._read()
            if now and now.get("beat") != holder.get("beat"):
                return True
        return False

    def _held_by(self) -> str:
        holder = self._read()
        who = "another process"
        if holder:
            who = (
                f"process {holder.get('pid')} on {holder.get('host')} since "
                f"{holder.get('started')} ({holder.get('command')})"
            )
        return (
            f"{self._folder}: this run is being trained already, by {who}; wait until it ends, or "
            "end it, or give this run another name"
        )

    def _read(self) -> dict[str, Any]:
        assert self._descriptor is not None
        try:
            found = json.loads(os.pread(self._descriptor, 1 << 16, 0))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        if self._descriptor is None:
            return
        self._beat += 1
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "command": shlex.join(sys.argv)[:1_000],
            "beat": self._beat,
        }
        text = json.dumps(holder).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def _keep_beating(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            with contextlib.suppress(OSError):  # a full disk is for the checkpoints to tell of
                self._write()

    def _forget(self) -> None:
        """Closes the file, which frees the lock where this process is the one that holds it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
