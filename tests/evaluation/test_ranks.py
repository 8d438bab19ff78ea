"""The processes of one evaluation, here threads that meet at a port."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from ports import free_port
from torch.distributed import TCPStore

from db1.errors import ConfigError, DataError
from db1.evaluation import ranks as module
from db1.evaluation.ranks import Ranks
from db1.runtime import Rank


@pytest.fixture
def first_and_second() -> tuple[Ranks, Ranks]:
    port, patience = free_port(), timedelta(seconds=20)
    stores = [
        TCPStore("127.0.0.1", port, 2, rank == 0, timeout=patience, wait_for_workers=False)
        for rank in range(2)
    ]
    return tuple(Ranks(Rank(rank=i, world_size=2), store) for i, store in enumerate(stores))


def test_the_first_stays_until_a_slow_one_knows(first_and_second: tuple[Ranks, Ranks]) -> None:
    first, second = first_and_second
    done = threading.Event()

    def evaluate() -> None:
        with first:
            assert first.first_does(lambda: "ready") == "ready"
        done.set()

    with ThreadPoolExecutor() as pool:
        work = pool.submit(evaluate)
        assert not done.wait(0.5)
        with second:
            assert second.first_does(lambda: pytest.fail("the first one's work")) is None
        assert done.wait(10)
        work.result()


def test_what_the_first_could_not_do_is_told_to_all(
    first_and_second: tuple[Ranks, Ranks],
) -> None:
    first, second = first_and_second

    def fail() -> None:
        raise DataError("results of other weights")

    def evaluate() -> None:
        with first:
            first.first_does(fail)

    with ThreadPoolExecutor() as pool:
        work = pool.submit(evaluate)
        with pytest.raises(ConfigError, match="results of other weights"), second:
            second.first_does(fail)
        with pytest.raises(DataError, match="results of other weights"):
            work.result()


def test_one_that_never_came_is_not_waited_for_for_ever(
    first_and_second: tuple[Ranks, Ranks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT", timedelta(seconds=0.3))
    first, _ = first_and_second
    started = time.monotonic()
    with first:
        first.first_does(lambda: None)
    assert 0.3 <= time.monotonic() - started < 5


def test_a_first_that_is_gone_is_one_clear_error(first_and_second: tuple[Ranks, Ranks]) -> None:
    first, second = first_and_second
    first._store = None  # frees the server
    with pytest.raises(ConfigError, match="rank 1: the first process ended without a message"):
        second.first_does(lambda: None)
