"""The contenders of `db1 bench data` do the same work, and its figures hang together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from db1.benchmarks.cases import Case, control_case, image_case, text_case
from db1.benchmarks.corpora import TaskSize
from db1.benchmarks.data import FULL, QUICK, bench_data, bench_samples
from db1.benchmarks.scale import write_sparse_store
from db1.errors import Db1Error
from db1.store.episodes import EpisodeStore

SMALL = TaskSize(num_episodes=2, num_steps=60)


@pytest.fixture(params=["control", "images", "text"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "text":
        return text_case(tmp_path, 20)
    return {"control": control_case, "images": image_case}[request.param](tmp_path, SMALL)


def test_the_reference_gives_the_same_and_a_change_is_told(case: Case) -> None:
    case.check(num_samples=6)
    with pytest.raises(Db1Error, match="sample 0 of the reference"):
        replace(case, same=lambda i: case.same(i + 1)).check()


def test_other_patches_are_told(tmp_path: Path) -> None:
    case = image_case(tmp_path, SMALL)
    for i in range(SMALL.num_episodes):
        file = tmp_path / "npy/observations" / f"{i}.npy"
        np.save(file, np.load(file)[:, ::-1])  # upside down: the ids stay
    with pytest.raises(Db1Error, match="sample 0 of the reference"):
        case.check()


def test_quick_figures_cover_everything() -> None:
    told: list[tuple[str, int, int]] = []
    comparisons = bench_data(quick=True, progress=lambda *report: told.append(report))
    works = [comparison.work for comparison in comparisons]
    assert len(set(works)) == len(works) == 9
    for kind in ("one core: 39 numbers", "one core: 80 x 80", "one core: text", "waiting"):
        assert any(kind in work for work in works)
    assert {work for work, done, total in told if done == total} == set(works)
    for comparison in comparisons[:7]:
        names = [timing.name for timing in comparison.timings]
        assert names[0] == "db1" and any(name.startswith(".npy files") for name in names)
    images = next(c for c in comparisons if c.work.startswith("batches") and "frames" in c.work)
    sizes = images.notes
    assert sizes["bytes of a batch, db1"] < sizes["bytes of a batch, .npy files"] / 3
    big, many = comparisons[-2:]
    assert big.notes["steps"] == 1_000_000 and many.notes["steps"] == 10 * 20 * 50


def test_a_sparse_store_is_a_store(tmp_path: Path) -> None:
    write_sparse_store(tmp_path / "big", 5_000)
    store = EpisodeStore(tmp_path / "big")
    assert (store.num_episodes, store.num_steps) == (10, 5_000)
    observations, actions = store.read_window(9, 490, 500)
    assert observations["state"].shape == (10, 39) and not actions.any()


@pytest.mark.slow
def test_samples_are_fast_enough(tmp_path: Path) -> None:
    """Floors on one core of a small machine; what was measured is in docs/benchmarks.md."""
    sizes = replace(FULL, rounds=3)
    for make, floor in ((control_case, 1_000), (image_case, 300)):
        size = TaskSize(num_episodes=10, num_steps=500)
        comparison = bench_samples(make(tmp_path / make.__name__, size), sizes)
        assert 1 / comparison.timings[0].median > floor
        assert comparison.ratio(".npy files") > 10
    text = bench_samples(text_case(tmp_path / "text", QUICK.num_documents), sizes)
    assert 1 / text.timings[0].median > 2_000
