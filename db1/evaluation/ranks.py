"""The processes of one evaluation under a launcher; alone without one.

They share the results folder (`queue.py`), and say one thing to each other: that the first one has
prepared it, or why it could not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from db1.errors import ConfigError, Db1Error
from db1.runtime import Rank, current_rank, rendezvous

logger = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT = timedelta(seconds=120)
PREPARE = timedelta(hours=2)
_KEY = "evaluation"


class Ranks:
    """This process and the others; see `join_ranks`.

    Args:
        place: Of this process.
        store: What they share, besides the results folder; None: there are no others.
    """

    def __init__(self, place: Rank | None = None, store: Any = None) -> None:
        self.place = place or Rank()
        self._store = store

    @property
    def is_first(self) -> bool:
        """Whether this process writes results.json."""
        return self.place.is_main

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.place.world_size == 1

    def first_does(self, work: Callable[[], T]) -> T | None:
        """The first process works, the others wait for it; returns its result, None to them.

        Raises:
            Db1Error: What `work` raised, in all processes.
        """
        if self._store is None:
            return work()
        if not self.is_first:
            self._store.set_timeout(PREPARE)
            told = self._store.get(_KEY).decode()
            if told:
                raise ConfigError(told)
            return None
        try:
            result = work()
        except Db1Error as error:
            self._store.set(_KEY, str(error))
            raise
        self._store.set(_KEY, "")
        return result


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
            f"rank {place.rank}: no answer of the first process at {host}:{port} ({reason})"
        ) from error
