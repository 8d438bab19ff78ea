"""The store benchmark runs and its figures hang together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from db1.benchmarks import store as bench
from db1.benchmarks.frames import drawn_frames
from db1.errors import Db1Error


def test_every_way_stores_and_reads_the_same() -> None:
    frames = drawn_frames(12, size=32)
    seen: list[tuple[str, int, int]] = []
    comparisons = bench.bench_store(
        quick=True, frames=frames, frames_name="small game", progress=lambda *n: seen.append(n)
    )
    assert [c.unit for c in comparisons] == ["step", "window"] * 2
    assert {t.name for t in comparisons[3].timings} == {"db1", "db1 raw", "db1 png", "npz", "npy"}
    sizes = comparisons[2].notes
    assert sizes["bytes a step, db1"] < sizes["bytes a step, db1 raw"] / 2
    assert comparisons[1].ratio("npz") > 1
    assert len(seen) == 4 * 3


def test_drawn_frames_move() -> None:
    frames = drawn_frames(10)
    assert frames.shape == (10, 96, 96, 3) and frames.dtype == np.uint8
    assert all((a != b).any() for a, b in pairwise(frames))


def test_readers_that_disagree_are_told() -> None:
    readers = {
        "db1": lambda *place: {"actions": np.zeros(3)},
        "npz": lambda *place: {"actions": np.ones(3)},
    }
    with pytest.raises(Db1Error, match="npz and db1 read different steps"):
        bench._check_equal(readers, [(0, 0, 3)])
