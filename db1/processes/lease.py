"""A file that one process holds at a time, on all machines that share it.

    lock.json   {"host": "node-3", "pid": 4711, "started": "...", "command": ..., "beat": 17}

The file is locked (flock) while its holder lives. On one machine, and on shared file systems that
lock across machines, that alone decides. Where the system lets a second machine have the lock, too,
the beat does: it grows every few seconds while its holder lives, so that a second one watches it
for a while before it takes the file over. No clock of two machines is ever compared.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import logging
import os
import shlex
import socket
import stat
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from db1.failures import mkdir, writing
from db1.locks import try_lock, unlock

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
WATCH_SECONDS = 4 * BEAT_SECONDS
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # a shared folder may hold links


class Lease:
    """Holds a file from `acquire` until `release`, or until this process is gone.

    Args:
        path: The file; is made where it is missing, and stays, empty, without a holder.
        beat_seconds: Time from one beat to the next.
        watch_seconds: How long another machine's beat is watched.
    """

    def __init__(
        self,
        path: Path,
        beat_seconds: float = BEAT_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._path = path
        self._beat_seconds, self._watch_seconds = beat_seconds, watch_seconds
        self._descriptor: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat = 0
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")

    @property
    def is_held(self) -> bool:
        """Tells whether this object holds the file."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Takes the file; False where another holder is alive (`holder` names it).

        Raises:
            WriteError: The file cannot be written.
        """
        with writing(self._path):
            mkdir(self._path.parent)
            self._descriptor = os.open(self._path, _FLAGS, 0o644)
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                self._forget()
                raise OSError(errno.EINVAL, "is no file", str(self._path))
        _OPEN.add(self)
        self._ended.clear()
        try:
            if not try_lock(self._descriptor, self._path) or self._beats_elsewhere():
                self._forget()
                return False
            with writing(self._path):
                self._write()
        except BaseException:
            self._forget()
            raise
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)
        self._thread.start()
        return True

    def release(self) -> None:
        """Lets the file go."""
        if self._descriptor is None:
            return
        self._ended.set()
        if self._thread:
            self._thread.join()
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        unlock(self._descriptor)
        self._forget()

    def holder(self) -> str:
        """Names the process that holds the file, as far as the file says."""
        found = self._read()
        if not found:
            return "another process"
        return (
            f"process {found.get('pid')} on {found.get('host')} since {found.get('started')} "
            f"({found.get('command')})"
        )

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _beats_elsewhere(self) -> bool:
        """Tells whether a holder on another machine is alive, by its beat."""
        holder = self._read()
        if not holder or holder.get("host") == socket.gethostname():
            return False  # of this machine, where the system's word counts
        logger.warning(
            "%s: last held on %s; watching for %.0f s whether that process is alive",
            self._path, holder.get("host"), self._watch_seconds,
        )  # fmt: skip
        until = time.monotonic() + self._watch_seconds
        while time.monotonic() < until:
            time.sleep(self._beat_seconds / 5)
            now = self._read()
            if now and now.get("beat") != holder.get("beat"):
                return True
        return False

    def _read(self) -> dict[str, Any]:
        try:
            with open(self._path, "rb") as file:
                found = json.loads(file.read(1 << 16))
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
            with contextlib.suppress(OSError):  # a full disk is for others to tell of
                self._write()

    def _forget(self) -> None:
        """Closes the file, which frees the lock where this process is the one that holds it."""
        descriptor, self._descriptor = self._descriptor, None
        _OPEN.discard(self)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


_OPEN: weakref.WeakSet[Lease] = weakref.WeakSet()


def _forget_all() -> None:
    for lease in list(_OPEN):
        lease._forget()


os.register_at_fork(after_in_child=_forget_all)  # a child must not hold what its parent holds
