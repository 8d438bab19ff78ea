"""The benchmark of importers: a row for every kind, read by the importers of `db1 import`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from db1.benchmarks import importers as bench
from db1.benchmarks.foreign.episodes import cut, numbers
from db1.benchmarks.frames import camera_frames
from db1.importers import IMPORTERS, ImportContext
from db1.store.episodes import EpisodeStore

SCRIPT = Path(__file__).parents[2] / "scripts/benchmark_importers.py"
LENGTHS = (4, 4, 3)


def _needs(kind: str) -> None:
    for package in bench.KINDS[kind].packages:
        pytest.importorskip(package, reason='pip install "db1[import]" runs it')


def test_every_importer_of_episodes_has_a_kind() -> None:
    measured = {entry.importer for entry in bench.KINDS.values()}
    expected = {"lerobot", "trajectories", "rlds", "tdmpc2", "jat", "minari", "d4rl", "db1-cache"}
    assert measured == expected and measured <= {*IMPORTERS}


@pytest.mark.parametrize("kind", bench.KINDS)
def test_what_is_written_is_what_comes_back(kind: str, tmp_path: Path) -> None:
    _needs(kind)
    entry = bench.KINDS[kind]
    episodes = [numbers(n, seed, observed=3, acted=2) for seed, n in enumerate(LENGTHS)]
    source = entry.write(tmp_path / "source", episodes)
    options = IMPORTERS[entry.importer].options(task="bench/line", **entry.options)
    IMPORTERS[entry.importer].run(source, tmp_path / "out", options, ImportContext())
    store = EpisodeStore(tmp_path / "out")
    assert store.lengths.tolist() == list(LENGTHS)
    for number, expected in enumerate(episodes):
        found = store.read(number)
        np.testing.assert_array_equal(found.observations["state"], expected.observations[:-1])
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.rewards, expected.rewards)
    if entry.importer == "lerobot":
        frames = camera_frames(sum(LENGTHS)).astype(int)
        shown = store.read(1).observations["images.top"].astype(int)
        assert np.abs(shown - frames[LENGTHS[0] :][: LENGTHS[1]]).mean() < 8  # of the codec


def test_lengths_add_up() -> None:
    assert cut(7, 3) == [3, 3, 1] and cut(6, 3) == [3, 3] and cut(2, 5) == [2]


def test_the_script_writes_a_row_for_each_kind(tmp_path: Path) -> None:
    kinds = ["db1-cache", "tdmpc2"]
    if importlib.util.find_spec("h5py"):
        kinds.append("d4rl")
    words = [word for kind in kinds for word in ("--kind", kind)]
    result = subprocess.run(
        [sys.executable, SCRIPT, *words, "--steps", "90", "--json", tmp_path / "new/figures.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "new/figures.json").read_text())
    assert content["command"].startswith("python scripts/benchmark_importers.py --kind db1-cache")
    assert content["machine"]["numpy"]
    assert sorted(row["kind"] for row in content["rows"]) == sorted(kinds)
    for row in content["rows"]:
        assert row["steps"] == 90 and row["source_mb"] * 1e6 > 90 * 24 * 4
        assert row["steps_per_second"] > 0 and row["kind"] in result.stdout
        if row["resident_before_mb"] is not None:
            assert 10 < row["resident_before_mb"] <= row["resident_peak_mb"]


def test_the_script_refuses_an_unknown_kind() -> None:
    result = subprocess.run(
        [sys.executable, SCRIPT, "--kind", "zarr"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and "zarr" in result.stderr
