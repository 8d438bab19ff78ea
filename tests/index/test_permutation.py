"""The computed shuffle is one, equals its reference, and looks random."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db1.errors import DataError
from db1.index.permutation import Permutation, reference_permute


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 600), st.integers(0, 2**32), st.integers(0, 50))
def test_is_a_permutation_and_equals_its_reference(size: int, seed: int, epoch: int) -> None:
    permutation = Permutation(seed, epoch, size)
    places = np.arange(size)
    got = permutation.take(places)
    assert sorted(got.tolist()) == places.tolist() and got.dtype == np.int64
    np.testing.assert_array_equal(got, reference_permute(places, size, permutation.keys))
    assert permutation[size - 1] == got[-1] and len(permutation) == size


@pytest.mark.parametrize("size", [2**31 + 7, 10**9, 2**40 + 1, 2**62])
def test_any_size_costs_nothing(size: int) -> None:
    permutation = Permutation(3, 1, size)
    places = np.array([0, 1, 2**31 - 1 if size > 2**31 else 5, size // 2, size - 1])
    got = permutation.take(places)
    np.testing.assert_array_equal(got, reference_permute(places, size, permutation.keys))
    assert len(set(got.tolist())) == len(places) and got.min() >= 0 and got.max() < size


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(Permutation(seed, epoch, 50).take(range(50)).tolist())
        for seed in range(6)
        for epoch in range(6)
    }
    assert len(orders) == 36


def test_all_orders_are_about_equally_likely() -> None:
    """24 orders of 4 elements over 12,000 seeds; chi-square of 23 degrees below its 1 - 1e-6."""
    counts = Counter(
        tuple(Permutation(seed, 0, 4).take(range(4)).tolist()) for seed in range(12_000)
    )
    assert len(counts) == 24
    assert sum((n - 500) ** 2 / 500 for n in counts.values()) < 72


def test_neighbours_part() -> None:
    got = Permutation(0, 0, 100_003).take(np.arange(100_003))
    assert abs(np.corrcoef(got[:-1], got[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(got, np.arange(100_003))[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Permutation(0, 0, 0), "size: got 0"),
        (lambda: Permutation(0, 0, 5)[5], r"indices\[0\]: got 5, expected 0..4"),
        (lambda: Permutation(0, 0, 5)[-1], r"indices\[0\]: got -1"),
        (lambda: Permutation(0, 0, 5).take([0.5]), "indices: got float64"),
    ],
)
def test_bad_input(call: object, named: str) -> None:
    with pytest.raises(DataError, match=named):
        call()
