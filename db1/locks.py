"""Locks between processes on an open file or folder; the system frees them at a process's end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging

logger = logging.getLogger(__name__)

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def try_lock(descriptor: int, what: object) -> bool:
    """Locks at once or not at all.

    Args:
        descriptor: Of an open file or folder; the lock goes when it is closed.
        what: Named in the warning where the file system has no locks.

    Returns:
        False when another process holds it; True when it is held now, and, after a warning, where
        the file system has no locks.
    """
    return _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, what)


def wait_for_lock(descriptor: int, what: object) -> None:
    """Locks as soon as no other process holds it; arguments as of `try_lock`."""
    _lock(descriptor, fcntl.LOCK_EX, what)


def unlock(descriptor: int) -> None:
    """Frees the lock now, also where a forked child still has the file open."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _lock(descriptor: int, mode: int, what: object) -> bool:
    try:
        fcntl.flock(descriptor, mode)
    except OSError as error:
        if error.errno in _HELD:
            return False
        logger.warning("%s: the file system has no locks (%s); run one writer only", what, error)
    return True
