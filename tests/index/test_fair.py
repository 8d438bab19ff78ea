"""The fair blend is never a whole sample off, equals its reference, and starts anywhere."""

from __future__ import annotations

import pickle
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db1.errors import DataError
from db1.index import fair
from db1.index.fair import FairBlend, fair_index, fair_table, reference_fair_index, whole_parts
from db1.index.index_cache import IndexCache

PARTS = st.lists(
    st.one_of(st.integers(0, 6), st.integers(0, 5_000), st.integers(0, 2**50)),
    min_size=1,
    max_size=40,
).filter(any)


def assert_fair(dataset: np.ndarray, parts: list[int]) -> None:
    """|c_i - n p_i / Q| < 1 in whole numbers, over every prefix."""
    total, drawn = sum(parts), [0] * len(parts)
    for n, i in enumerate(dataset.tolist(), start=1):
        drawn[i] += 1
        for count, part in zip(drawn, parts, strict=True):
            assert abs(count * total - n * part) < total


def test_worked_example() -> None:
    blend = [0, 1, 0, 2, 0, 1, 0, 1, 0, 2]
    assert fair_index([5, 3, 2], 20)[0].tolist() == blend * 2
    assert reference_fair_index([5, 3, 2], 20)[0].tolist() == blend * 2
    assert fair_index([5, 3, 2], 10)[1].tolist() == [0, 0, 1, 0, 2, 1, 3, 2, 4, 1]


@settings(max_examples=150, deadline=None)
@given(PARTS, st.integers(0, 150))
def test_is_fair_and_equals_its_reference(parts: list[int], num_samples: int) -> None:
    dataset, within = fair_index(parts, num_samples)
    assert dataset.dtype == within.dtype == np.int64
    expected = reference_fair_index(parts, num_samples)
    np.testing.assert_array_equal(dataset, expected[0])
    np.testing.assert_array_equal(within, expected[1])
    assert_fair(dataset, parts)
    for i in range(len(parts)):
        assert within[dataset == i].tolist() == list(range(int((dataset == i).sum())))


@pytest.mark.parametrize("count", [3, 17, 300])
def test_is_fair_over_long_runs(count: int) -> None:
    """Both ways of finding the earliest deadline (few and many datasets), skewed shares."""
    parts = (np.random.default_rng(count).random(count) ** 4 * 2**40).astype(np.int64) + 1
    num_samples = 20_000
    dataset, _ = fair_index(parts, num_samples)
    n = np.arange(1, num_samples + 1, dtype=object)
    for i in range(0, count, max(1, count // 25)):
        drawn = np.cumsum(dataset == i).astype(object)
        off = drawn * int(parts.sum()) - n * int(parts[i])
        assert max(abs(off)) < int(parts.sum())


@settings(max_examples=100, deadline=None)
@given(PARTS, st.integers(1, 120), st.integers(1, 40))
def test_blocks_give_the_whole(parts: list[int], num_samples: int, every: int) -> None:
    whole = fair_index(parts, num_samples)
    table = fair_table(parts, num_samples, every)
    assert len(table) == -(-num_samples // every)
    for row, start in enumerate(range(0, num_samples, every)):
        stop = min(start + every, num_samples)
        block = fair_index(parts, stop, start=start, counts=table[row])
        for got, want in zip(block, whole, strict=True):
            np.testing.assert_array_equal(got, want[start:stop])


@pytest.mark.parametrize("near", [2**31, 2**40, 2**61])
def test_far_samples_cost_nothing_and_are_exact(near: int) -> None:
    """After k whole periods the blend begins again, with numbers within datasets that go on."""
    parts = [7, 5, 4, 1]
    periods = near // 17
    counts = np.array(parts) * periods
    first = fair_index(parts, 100)
    far = fair_index(parts, periods * 17 + 100, start=periods * 17, counts=counts)
    np.testing.assert_array_equal(far[0], first[0])
    np.testing.assert_array_equal(far[1], first[1] + counts[first[0]])
    blend = FairBlend(parts, 2**62)
    for n in (0, near - 1, near, near + 12_345):
        dataset, number = blend[n]
        assert dataset == first[0][n % 17]
        assert blend.counts(n + 1)[dataset] == number + 1
        assert blend.counts(n).sum() == n


def test_random_access_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (np.random.default_rng(1).random(23) * 2**50).astype(np.int64)
    parts[4] = 0
    dataset, within = fair_index(parts, 5_000)
    monkeypatch.setattr(fair, "BLOCK", 256)
    blend = pickle.loads(pickle.dumps(FairBlend(parts, 5_000)))
    for n in np.random.default_rng(2).integers(0, 5_000, 300).tolist():
        assert blend[n] == (dataset[n], within[n])
        np.testing.assert_array_equal(blend.counts(n), np.bincount(dataset[:n], minlength=23))
    for outside in (-1, 5_000):
        with pytest.raises(IndexError):
            blend[outside]


def test_a_long_table_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair, "CACHE_FROM", 1_000)
    monkeypatch.setattr(fair, "BLOCK", 256)
    parts = [2**40 + 1, 2**39, 3]
    one = FairBlend(parts, 5_000, IndexCache(tmp_path))
    assert [one[n] for n in (0, 4_999)] == [(0, 0), FairBlend(parts, 5_000)[4_999]]
    (file,) = (tmp_path / ".index").glob("*.npy")
    monkeypatch.setattr(fair, "fair_table", None)  # a second one must not compute it
    assert FairBlend(parts, 5_000, IndexCache(tmp_path))[4_999] == one[4_999]
    assert file.stat().st_size < 5_000


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fractions(0, 5, max_denominator=60), min_size=1, max_size=8).filter(any))
def test_whole_parts_are_exact(shares: list[Fraction]) -> None:
    parts = [int(part) for part in whole_parts(shares)]
    assert [Fraction(part, sum(parts)) for part in parts] == [s / sum(shares) for s in shares]


def test_whole_parts_round_what_has_no_small_denominator() -> None:
    primes = [2_147_483_647, 2_147_483_629, 2_147_483_587]
    shares = [Fraction(1, p) for p in primes] + [Fraction(1, 10**30), Fraction(0)]
    parts = whole_parts(shares)
    total = sum(shares)
    assert parts.sum() == 2**53 and parts[3] == 1 and parts[4] == 0
    for part, share in zip(parts.tolist(), shares, strict=True):
        assert abs(Fraction(part, 2**53) - share / total) < Fraction(2, 2**53)


def test_reference_greedy_is_less_fair() -> None:
    """What the fair rule is for: Megatron's greedy rule falls behind by more than a sample."""
    from db1.index.index import blending_index

    weights = np.array([30.0] * 20 + [1.0] * 19)
    n = np.arange(1, 5_001)[:, None]
    behind = {}
    for name, dataset in {
        "greedy": blending_index(weights, 5_000)[0],
        "fair": fair_index(weights.astype(np.int64), 5_000)[0],
    }.items():
        drawn = np.cumsum(dataset[:, None] == np.arange(39), axis=0)
        behind[name] = (n * weights / weights.sum() - drawn).max()
    assert behind["fair"] < 1 < behind["greedy"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: fair_index([3, -1], 4), r"parts\[1\]: got -1"),
        (lambda: fair_index([], 4), "number of parts: got 0"),
        (lambda: fair_index([0, 0], 4), "sum of parts: got 0"),
        (lambda: fair_index([2**60, 1], 4), "sum of parts"),
        (lambda: fair_index([2**62, 2**62], 4), "does not fit 64 bits"),
        (lambda: fair_index([0.5], 4), "parts: got float64"),
        (lambda: fair_index([float("nan")], 4), "parts: got float64"),
        (lambda: fair_index([[1]], 4), "got 2 axes"),
        (lambda: fair_index([[1], [2, 3]], 4), "expected one axis of integers"),
        (lambda: fair_index([2**70], 4), "parts: got object"),
        (lambda: fair_index([1], -1), "stop: got -1"),
        (lambda: fair_index([1], 2.5), "stop: got 2.5"),
        (lambda: fair_index([1], 2**70), "at most 2"),
        (lambda: fair_index([1], 2**61), "does not fit the memory"),
        (lambda: fair_index([1, 1], 4, start=5, counts=[3, 2]), "stop: got 4"),
        (lambda: fair_index([1, 1], 9, start=4, counts=[3, 2]), "sum of counts: got 5"),
        (lambda: fair_index([1, 1], 9, start=4, counts=[4, 0]), r"counts\[0\]: got 4"),
        (lambda: fair_index([1, 1], 9, start=4, counts=[4]), "size of counts: got 1"),
        (lambda: fair_table([1], 5, 0), "every: got 0"),
        (lambda: whole_parts([Fraction(0)]), "one above 0"),
        (lambda: whole_parts([Fraction(-1), Fraction(2)]), "at least 0"),
    ],
)
def test_bad_input(call: object, named: str) -> None:
    with pytest.raises(DataError, match=named):
        call()


def test_the_lock_of_python_is_released() -> None:
    parts = np.random.default_rng(0).integers(1, 2**40, 500)
    thread = threading.Thread(target=fair_table, args=(parts, 4_000_000, 1_000_000))
    ticks = 0
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 5
