"""Work that any number of processes share, on any machines that share a folder.

    <folder>/metaworld~reach-v3.lock    held while a process works on it (`lease.py`)

Every process goes through the same list: it skips what another one holds, and looks again at the
end. What a process held that died is free again, so that a lost machine costs its own last work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db1.processes.lease import Lease
from db1.untrusted import below

FOLDER = ".claims"
"""Name of the folder of locks in one where stores or scores are made."""

POLL = 0.5
"""Seconds between two looks at what another process holds."""


class Claims:
    """See the module's docstring.

    Args:
        folder: Where the locks lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def inside(cls, out: Path) -> Claims:
        """Claims of what is made in a folder."""
        return cls(out / FOLDER)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Holds a piece of work while the block runs: True; False when another process has it."""
        lease = Lease(below(self._folder, f"{name.replace('/', '~')}.lock"))
        with lease:
            yield lease.acquire()

    @contextmanager
    def wait(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds a piece of work while the block runs, as soon as no other process has it.

        Args:
            name: Of the work.
            waiting: Called twice a second while another one has it.
        """
        while True:
            with self.claim(name) as is_mine:
                if is_mine:
                    yield
                    return
            waiting()
            time.sleep(POLL)
