"""The processes of one evaluation under a launcher; alone without one.

They share the results folder (`queue.py`), and say one thing to each other: that the first one has
prepared it, or why it could not. The first one holds what they meet in, so it stays until all know.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from db1.errors import ConfigError, Db1Error
from db1.runtime import Rank, current_rank, rendezvous

T = TypeVar("T")

CONNECT = timedelta(seconds=120)
PREPARE = timedelta(hours=2)
_KEY, _TOLD = "evaluation", "told"


class Ranks:
    """This process and the others, until the end of the `with` block; see `join_ranks`.

    Args:
        place: Of this process.
        store: What they share, besides the results folder; None: there are no others.
    """

    def __init__(self, place: Rank | None = None, store: Any = None) -> None:
        self.place = place or Rank()
        self._store = store
        self._has_spoken = False

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._has_spoken and (error is None or isinstance(error, Db1Error)):
            self._wait_until_all_know()

    @property
    def is_first(self) -> bool:
        """True in the process that writes results.json."""
        return self.place.is_main

    @property
    def is_alone(self) -> bool:
        """True when there is no other process."""
        return self.place.world_size == 1

    def first_does(self, work: Callable[[], T]) -> T | None:
        """The first process works, the others wait for it; returns its result, None to them.

        Raises:
            Db1Error: What `work` raised, in all processes; in the others also when the first one
                is gone.
        """
        if self._store is None:
            return work()
        if not self.is_first:
            if told := self._hear():
                raise ConfigError(told)
            return None
        try:
            result = work()
        except Db1Error as error:
            self._speak(str(error))
            raise
        self._speak("")
        return result

    def _speak(self, word: str) -> None:
        self._store.set(_KEY, word)
        self._has_spoken = True

    def _hear(self) -> str:
        from torch.distributed import DistError

        self._store.set_timeout(PREPARE)
        try:
            word = self._store.get(_KEY).decode()
            self._store.add(_TOLD, 1)
        except DistError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"rank {self.place.rank}: the first process ended without a message ({reason}); "
                "its own output says why"
            ) from error
        return str(word)

    def _wait_until_all_know(self) -> None:
        """Lets a process that is slow to start find this one; for at most `CONNECT`."""
        last = time.monotonic() + CONNECT.total_seconds()
        while self._store.add(_TOLD, 0) < self.place.world_size - 1 and time.monotonic() < last:
            time.sleep(0.05)


def join_ranks() -> Ranks:
    """Meets the other processes of the launch at its port; alone without a launcher.

    Raises:
        ConfigError: When the launcher's port is in use by another program, or nobody answers there.
    """
    place, meeting = current_rank(), rendezvous()
    return Ranks(place, None if meeting is None else _connect(place, *meeting))


def _connect(place: Rank, host: str, port: int) -> Any:
    from torch.distributed import DistError, TCPStore

    try:
        return TCPStore(
            host, port, place.world_size, place.is_main, timeout=CONNECT, wait_for_workers=False
        )
    except (DistError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if place.is_main:
            raise ConfigError(
                f"port {port} is in use by another program or cannot be listened on ({reason}); "
                "choose another one, such as 29510"
            ) from error
        raise ConfigError(
            f"rank {place.rank}: no answer from the first process at {host}:{port} ({reason})"
        ) from error
