"""The order of samples under shares that change at some steps, and the file that keeps them."""

from __future__ import annotations

import json
import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from db1.data.mixture import SampleOrder
from db1.data.schedule import FILE, MixtureSchedule
from db1.errors import ConfigError, DataError


def _shares(**shares: str) -> list[tuple[str, Fraction]]:
    return [(name, Fraction(share)) for name, share in shares.items()]


FIRST = _shares(a="1/2", b="3/10", c="1/5")
SECOND = _shares(a="1/10", b="3/10", c="3/5")
THIRD = _shares(a="1", b="0", c="0")


def _drawn(order: SampleOrder) -> np.ndarray:
    datasets = np.array([order[n][0] for n in range(len(order))])
    return np.cumsum(datasets[:, None] == np.arange(order.num_datasets), axis=0)


def test_stretches_keep_their_shares_and_count_on() -> None:
    schedule = MixtureSchedule.plan(FIRST, 400).resumed(10, SECOND, 320).resumed(33, THIRD, 136)
    order = schedule.order(400, 8)
    drawn = _drawn(order)
    for first, stop, shares in ((0, 80, FIRST), (80, 264, SECOND), (264, 400, THIRD)):
        before = drawn[first - 1] if first else 0
        wanted = np.outer(np.arange(1, stop - first + 1), [float(share) for _, share in shares])
        assert np.abs(drawn[first:stop] - before - wanted).max() < 1
    numbers = [order[n] for n in range(400)]
    for dataset in range(3):
        mine = [number for i, number in numbers if i == dataset]
        assert mine == list(range(len(mine)))
        assert all(order.counts(n)[dataset] == drawn[n - 1][dataset] for n in range(1, 401))
    assert (order.counts(0) == 0).all()


def test_a_change_leaves_what_was_drawn_before() -> None:
    plan = MixtureSchedule.plan(FIRST, 400)
    once, changed = plan.order(400, 8), plan.resumed(20, SECOND, 240).order(400, 8)
    assert [once[n] for n in range(160)] == [changed[n] for n in range(160)]
    assert [once[n] for n in range(160, 400)] != [changed[n] for n in range(160, 400)]


def test_resuming() -> None:
    plan = MixtureSchedule.plan(FIRST, 400)
    assert plan.resumed(20, FIRST, 240) == plan
    assert plan.resumed(20, list(reversed(FIRST)), 240) == plan
    changed = plan.resumed(20, SECOND, 240)
    assert [s.first_step for s in changed.phases] == [0, 20]
    assert changed.resumed(20, SECOND, 240) == changed.resumed(30, SECOND, 160) == changed
    assert changed.resumed(20, FIRST, 240) == plan  # nothing was drawn under SECOND
    back = changed.resumed(30, FIRST, 160)
    assert [s.first_step for s in back.phases] == [0, 20, 30]
    assert back.resumed(10, FIRST, 320) == plan  # set back to an earlier checkpoint
    again = back.resumed(10, SECOND, 320)
    assert [s.first_step for s in again.phases] == [0, 10]
    assert back.resumed(0, SECOND, 400) == MixtureSchedule.plan(SECOND, 400)
    for other in (_shares(a="1", b="1"), _shares(a="1", b="1", d="1")):
        with pytest.raises(ConfigError, match="other datasets than the configuration"):
            plan.resumed(20, other, 240)


def test_another_length_of_the_run_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A share raised to one sample of the planned run stays what it was in a longer one."""
    rare = _shares(a="999/1000", b="1/1000")
    logging.getLogger("db1").propagate = True
    plan = MixtureSchedule.plan(rare, 100)
    assert plan.phases[0].used == {"a": 0.99, "b": 0.01}
    assert "the weights of b give less than one of 100 sequences" in caplog.text
    assert plan.resumed(5, rare, 5_000) == plan
    assert plan.order(100, 1).counts(100).tolist() == [99, 1]


def test_the_file(tmp_path: Path) -> None:
    assert MixtureSchedule.load(tmp_path) is None
    schedule = MixtureSchedule.plan(FIRST, 400).resumed(10, SECOND, 320)
    schedule.save(tmp_path)
    assert MixtureSchedule.load(tmp_path) == schedule
    good = json.loads((tmp_path / FILE).read_text())
    swapped = {**good, "stretches": good["stretches"][::-1]}
    fewer = json.loads(json.dumps(good))
    del fewer["stretches"][1]["parts"]["a"]
    for broken in ("{", "[]", "{}", json.dumps(swapped), json.dumps(fewer)):
        (tmp_path / FILE).write_text(broken)
        with pytest.raises(DataError, match=FILE):
            MixtureSchedule.load(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({**good, "version": 9}))
    with pytest.raises(DataError, match="version 9, expected 1"):
        MixtureSchedule.load(tmp_path)


def test_bad_orders() -> None:
    for phases in ([], [(1, [1])], [(0, [1]), (0, [1])], [(0, [1]), (5, [1]), (3, [1])]):
        with pytest.raises(ConfigError, match="phases start at"):
            SampleOrder(phases, 10)
    with pytest.raises(ConfigError, match="different numbers"):
        SampleOrder([(0, [1]), (5, [1, 2])], 10)
    for n in (-1, 10):
        with pytest.raises(IndexError):
            SampleOrder([(0, [1])], 10)[n]


def test_a_run_of_billions_is_addressed_at_once() -> None:
    order = SampleOrder([(0, [3, 2, 1]), (2**31 + 6, [1, 2, 3])], 2**40)
    assert order.counts(2**31 + 6).sum() == 2**31 + 6
    for n in (2**31 + 5, 2**31 + 6, 2**40 - 1):
        dataset, number = order[n]
        assert number == order.counts(n)[dataset] and order.counts(n).sum() == n
