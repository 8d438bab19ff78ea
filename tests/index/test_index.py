"""The C++ index equals its NumPy reference, the worked examples, and megatron-core."""

from __future__ import annotations

import threading
import time
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db1.errors import DataError
from db1.index.index import (
    SampleStarts,
    blending_index,
    reference_blending_index,
    reference_sample_index,
    reference_window_index,
    reference_window_lookup,
    sample_index,
    window_index,
    window_lookup,
)

WEIGHTS = [0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02]
BLEND = [0, 1, 2, 0, 3, 0, 4, 0, 1, 0, 5, 0, 1, 0, 2, 0, 3, 0, 1, 0]
SIZES = st.lists(st.integers(0, 20), max_size=30)


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype == np.int64
    np.testing.assert_array_equal(got, want)


def test_worked_examples() -> None:
    rows = [[0, 0], [1, 1], [2, 0], [3, 2], [3, 6]]
    assert sample_index([3, 5, 2, 7], 4).tolist() == rows
    assert reference_sample_index(np.array([3, 5, 2, 7]), 4).tolist() == rows
    assert blending_index(WEIGHTS, 20)[0].tolist() == BLEND
    assert reference_blending_index(np.array(WEIGHTS), 20)[0].tolist() == BLEND
    counts = window_index([5, 2, 4], 3)
    assert counts.tolist() == [0, 3, 4, 6]
    episodes, starts = window_lookup(counts, range(6))
    assert episodes.tolist() == [0, 0, 0, 1, 2, 2] and starts.tolist() == [0, 1, 2, 0, 0, 1]


@settings(max_examples=300, deadline=None)
@given(SIZES, st.integers(1, 60))
def test_sample_index_of_one_epoch(sizes: list[int], sequence_length: int) -> None:
    got = sample_index(sizes, sequence_length)
    assert_same(got, reference_sample_index(np.array(sizes, dtype=np.int64), sequence_length))
    tokens = np.concatenate([np.arange(size) + 1000 * i for i, size in enumerate([*sizes, 0])])
    for i, (document, token) in enumerate(got[1:], start=1):
        assert tokens[i * sequence_length] == token + 1000 * document


@settings(max_examples=200, deadline=None)
@given(SIZES.filter(any), st.integers(1, 60), st.integers(0, 50))
def test_sample_index_of_many_epochs(sizes: list[int], sequence_length: int, samples: int) -> None:
    got = sample_index(sizes, sequence_length, samples)
    assert_same(got, reference_sample_index(np.array(sizes), sequence_length, samples))
    assert len(got) == samples + 1
    repeated = sizes * (1 + samples * sequence_length // sum(sizes))
    assert_same(got, reference_sample_index(np.array(repeated), sequence_length, samples))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 50))
def test_windows(lengths: list[int], window: int) -> None:
    counts = window_index(lengths, window)
    assert_same(counts, reference_window_index(np.array(lengths), window))
    numbers = np.random.default_rng(0).permutation(int(counts[-1]))
    episodes, starts = window_lookup(counts, numbers)
    expected = reference_window_lookup(counts, numbers)
    assert_same(episodes, expected[0])
    assert_same(starts, expected[1])
    pairs = {(e, s) for e, n in enumerate(lengths) for s in range(max(1, n - window + 1))}
    assert len(numbers) == len(pairs)
    assert set(zip(episodes.tolist(), starts.tolist(), strict=True)) == pairs


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=1, max_size=25).filter(any),
    st.integers(0, 200),
)
def test_blend(weights: list[float], num_samples: int) -> None:
    dataset, within = blending_index(weights, num_samples)
    expected = reference_blending_index(np.array(weights), num_samples)
    assert_same(dataset, expected[0])
    assert_same(within, expected[1])
    drawn = np.cumsum(dataset[:, None] == np.arange(len(weights)), axis=0)
    assert not drawn[:, np.array(weights) == 0].any()
    wanted = np.arange(1, num_samples + 1)[:, None] * (np.array(weights) / sum(weights))
    assert (drawn < wanted + 1 + 1e-9).all()
    for i in range(len(weights)):
        assert within[dataset == i].tolist() == list(range(int((dataset == i).sum())))


@pytest.mark.parametrize("count", [2, 7, 40])
def test_blend_is_near_its_weights_at_every_prefix(count: int) -> None:
    weights = np.random.default_rng(count).random(count) ** 3
    dataset, _ = blending_index(weights, 20_000)
    drawn = np.cumsum(dataset[:, None] == np.arange(count), axis=0)
    wanted = np.arange(1, 20_001)[:, None] * (weights / weights.sum())
    assert (drawn - wanted).max() < 1 and (drawn - wanted).min() > -2


def test_beyond_32_bits() -> None:
    sizes = np.array([2**40, 5, 2**33], dtype=np.int64)
    assert_same(sample_index(sizes, 2**32), reference_sample_index(sizes, 2**32))
    counts = window_index([2**40, 3, 2**35], 2)
    assert counts.tolist() == [0, 2**40 - 1, 2**40 + 1, 2**40 + 2**35]
    assert [x.tolist() for x in window_lookup(counts, [2**40 + 7])] == [[2], [6]]


@settings(max_examples=150, deadline=None)
@given(SIZES.filter(any), st.integers(1, 60), st.integers(0, 40), st.data())
def test_blocks_of_rows(sizes: list[int], length: int, samples: int, data: st.DataObject) -> None:
    whole = sample_index(sizes, length, samples)
    start = data.draw(st.integers(0, samples))
    stop = data.draw(st.integers(start, samples))
    assert_same(
        sample_index(sizes, length, samples, start=start, stop=stop), whole[start : stop + 1]
    )
    narrow = np.array(sizes, dtype=np.int32)
    assert_same(sample_index(narrow, length, samples, start=start), whole[start:])
    epoch = sample_index(sizes, length)
    starts = SampleStarts(sizes, length)
    assert len(starts) == len(epoch) - 1
    assert [list(starts[row]) for row in range(len(epoch))] == epoch.tolist()
    for outside in (-1, len(epoch)):
        with pytest.raises(IndexError):
            starts[outside]


@pytest.mark.parametrize("near", [2**31, 2**40])
def test_blocks_far_out(near: int) -> None:
    """Rows around sample 2**31 and 2**40, without those before."""
    sizes = np.array([1000, 0, 17, 3], dtype=np.int64)
    rows = sample_index(sizes, 64, near + 5, start=near - 2, stop=near + 2)
    for row, (document, token) in zip(range(near - 2, near + 3), rows.tolist(), strict=True):
        epoch, within = divmod(row * 64, 1020)
        assert document // 4 == epoch
        assert [0, 1000, 1000, 1017][document % 4] + token == within
    big = SampleStarts([near, 5, near], 64)
    for row in (near // 64 - 1, near // 64, near // 64 + 1, len(big)):
        document, token = big[row]
        assert [0, near, near + 5][document] + token == row * 64


def test_a_long_step_over_few_tokens_takes_no_time() -> None:
    start = time.perf_counter()
    rows = sample_index([1, 0, 2], 10**15, 3)
    assert rows.tolist() == reference_sample_index(np.array([1, 0, 2]), 10**15, 3).tolist()
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: sample_index([3, -1], 4), r"sizes\[1\]: got -1"),
        (lambda: sample_index([3], 0), "sequence_length: got 0"),
        (lambda: sample_index([3], 4, -1), "num_samples: got -1"),
        (lambda: sample_index([0], 4, 1), "no tokens, cannot cut 1 samples"),
        (lambda: sample_index([[3]], 4), "got 2 axes"),
        (lambda: sample_index([0.5], 4), "sizes: got float64, expected integers"),
        (lambda: sample_index([2**62, 2**62], 4), "does not fit 64 bits"),
        (lambda: sample_index([3], 2**60, 100), "too many for 64 bits"),
        (lambda: sample_index([1] + [0] * 100, 2**60, 4), "too many for 64 bits"),
        (lambda: sample_index([3, 2], 1, 3, start=4), "start: got 4, expected 0..3"),
        (lambda: sample_index([3, 2], 1, 3, start=2, stop=1), "stop: got 1, expected 2..3"),
        (lambda: sample_index([3, 2], 1, 3, stop=9), "stop: got 9"),
        (lambda: sample_index([3], 1, 2**50), "does not fit the memory"),
        (lambda: sample_index([3], 1, 2**70), "at most 2"),
        (lambda: sample_index([3], 1.5), "sequence_length: got 1.5"),
        (lambda: sample_index([2**63], 1), "sizes: got uint64"),
        (lambda: sample_index(["a"], 1), "sizes: got <U1"),
        (lambda: SampleStarts([3, -1], 4), r"sizes\[1\]: got -1"),
        (lambda: SampleStarts([3], 0), "sequence_length: got 0"),
        (lambda: blending_index([1.0], 2**60), "does not fit the memory"),
        (lambda: blending_index(["a"], 3), "weights: got <U1, expected real"),
        (lambda: blending_index([1j], 3), "weights: got complex128"),
        (lambda: blending_index([[1.0], [2.0, 3.0]], 3), "expected one axis of numbers"),
        (lambda: window_index([3, 0], 2), r"lengths\[1\]: got 0"),
        (lambda: window_index([3], 0), "window: got 0"),
        (lambda: window_lookup(window_index([3], 2), [2]), "window 2, expected 0..1"),
        (lambda: window_lookup(window_index([3], 2), [-1]), "window -1"),
        (lambda: window_lookup(np.array([], dtype=np.int64), []), "counts: got 0"),
        (lambda: blending_index([0.5, -0.1], 3), r"weights\[1\]: got -0.1"),
        (lambda: blending_index([0.0, 0.0], 3), "sum is 0.0"),
        (lambda: blending_index([float("nan")], 3), "got nan"),
        (lambda: blending_index([1e308, 1e308], 3), "sum is inf"),
        (lambda: blending_index([], 3), "number of weights: got 0"),
        (lambda: blending_index([1.0], -3), "num_samples: got -3"),
    ],
)
def test_bad_input(call: object, named: str) -> None:
    with pytest.raises(DataError, match=named):
        call()


def test_the_extension_throws_value_errors_and_converts_nothing() -> None:
    from db1 import _index

    with pytest.raises(ValueError, match=r"weights\[0\]"):
        _index.blending_index(np.array([-1.0]), 3)
    with pytest.raises(TypeError):
        _index.sample_index(np.array([1.5, 2.5]), 1, -1)


def test_strides_and_byte_orders_do_not_matter() -> None:
    sizes = np.arange(40, dtype=np.int64)
    expected = sample_index(sizes[::-2].copy(), 7)
    assert_same(sample_index(sizes[::-2], 7), expected)
    assert_same(sample_index(sizes.astype(">i8")[::-2], 7), expected)
    weights = np.array([[0.1, 9], [0.2, 9], [0.7, 9]])
    assert_same(blending_index(weights[:, 0], 50)[0], blending_index([0.1, 0.2, 0.7], 50)[0])


def test_thousands_of_datasets() -> None:
    """Beyond the 256 and 32,767 ids of Megatron's blends."""
    dataset, _ = blending_index(np.ones(40_000), 40_000)
    assert dataset.tolist() == list(range(40_000))


def test_the_lock_of_python_is_released() -> None:
    thread = threading.Thread(target=blending_index, args=(np.ones(200), 300_000))
    ticks = 0
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 5


@pytest.fixture
def megatron() -> ModuleType:
    reason = "megatron-core is not installed; pip install --no-deps megatron-core==0.16.1 runs it"
    return pytest.importorskip("megatron.core.datasets.helpers_cpp", reason=reason)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20))
def test_equals_megatron(megatron: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.maximum(rng.integers(-5, 40, 200), 0).astype(np.int32)
    length = int(rng.integers(1, 100))
    theirs = megatron.build_sample_idx_int64(
        sizes, np.arange(200, dtype=np.int32), length, 1, int(sizes.sum()), True, 1
    )
    np.testing.assert_array_equal(sample_index(sizes, length), theirs)
    weights = rng.random(int(rng.integers(1, 60))) ** 2
    weights /= np.cumsum(weights)[-1]
    dataset, within = np.zeros(5_000, dtype=np.int16), np.zeros(5_000, dtype=np.int64)
    megatron.build_blending_indices(dataset, within, weights, len(weights), 5_000, False)
    ours = blending_index(weights, 5_000)
    np.testing.assert_array_equal(ours[0], dataset)
    np.testing.assert_array_equal(ours[1], within)
