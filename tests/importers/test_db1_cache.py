"""The released DB1's cache of demonstrations, and caches that do not agree with themselves."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_episodes import Raw, numbers, write_db1_cache

from db1.errors import DataError
from db1.importers import ImportContext, ImportSummary
from db1.importers.db1_cache import Db1CacheOptions, import_db1_cache
from db1.store.episodes import EpisodeStore


def imported(source: str | Path, out: Path, **options: Any) -> ImportSummary:
    return import_db1_cache(
        str(source), out, Db1CacheOptions(task="toy/line", **options), ImportContext()
    )


@pytest.fixture
def episodes() -> list[Raw]:
    return [numbers(length, seed) for seed, length in enumerate([5, 1, 7])]


@pytest.fixture
def cache(tmp_path: Path, episodes: list[Raw]) -> Path:
    return Path(write_db1_cache(tmp_path / "cache", episodes))


def test_one_folder_a_key(cache: Path, tmp_path: Path, episodes: list[Raw]) -> None:
    rng = np.random.default_rng(0)
    screens = [rng.integers(0, 256, (len(e), 64, 64, 3), dtype=np.uint8) for e in episodes]
    for key in ("image", "state"):
        (cache / "observations" / key).mkdir()
    for i, screen in enumerate(screens):
        file = cache / f"observations/{i}.npy"
        file.rename(cache / f"observations/state/{i}.npy")
        np.save(cache / f"observations/image/{i}.npy", screen)
        np.save(cache / f"actions/{i}.npy", np.arange(len(screen)) % 6)
    imported(cache, tmp_path / "out")
    store = EpisodeStore(tmp_path / "out")
    assert store.spec.action.num_values == 6
    np.testing.assert_array_equal(store.read(2).observations["image"], screens[2])
    np.testing.assert_array_equal(
        store.read(2).observations["state"], episodes[2].observations[:-1]
    )


def test_rewards_in_a_column(cache: Path, tmp_path: Path, episodes: list[Raw]) -> None:
    np.save(cache / "rewards/0.npy", episodes[0].rewards[:, None])
    imported(cache, tmp_path / "out")
    np.testing.assert_array_equal(
        EpisodeStore(tmp_path / "out").read(0).rewards, episodes[0].rewards
    )


def test_lengths_and_returns_are_checked(cache: Path, tmp_path: Path) -> None:
    lengths, returns = np.load(cache / "path_lengths.npy"), np.load(cache / "traj_returns.npy")
    np.save(cache / "path_lengths.npy", lengths + np.array([0, 0, 1]))
    with pytest.raises(DataError, match="episode 2: 7 actions, path_lengths.npy says 8"):
        imported(cache, tmp_path / "out")
    np.save(cache / "path_lengths.npy", lengths)
    np.save(cache / "traj_returns.npy", returns + np.array([0, 0.5, 0]))
    with pytest.raises(DataError, match="episode 1: return .*, traj_returns.npy says"):
        imported(cache, tmp_path / "returns")
    assert imported(cache, tmp_path / "skipped", skip_bad=True).num_stored == 2
    np.save(cache / "traj_returns.npy", returns[:2])
    with pytest.raises(DataError, match="expected integers .episodes,. and .episodes,."):
        imported(cache, tmp_path / "o")


def test_lengths_zero_and_one(cache: Path, tmp_path: Path) -> None:
    for part, shape in (("observations", (0, 4)), ("actions", (0, 2)), ("rewards", (0,))):
        np.save(cache / part / "0.npy", np.zeros(shape, np.float32))
    np.save(cache / "path_lengths.npy", [0, 1, 7])
    np.save(cache / "traj_returns.npy", np.load(cache / "traj_returns.npy") * [0, 1, 1])
    summary = imported(cache, tmp_path / "out")
    assert summary.counts["dropped, length 0"] == 1
    assert EpisodeStore(tmp_path / "out").lengths.tolist() == [1, 7]


class Mark:
    """Pickles to code that leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def test_nothing_is_unpickled(cache: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.save(cache / "actions/0.npy", np.array([Mark(mark)] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(
        DataError, match="actions/0.npy: not a plain NumPy array.* unpickles nothing"
    ):
        imported(cache, tmp_path / "out")
    (cache / "actions/0.npy").write_bytes(pickle.dumps(Mark(mark)))
    with pytest.raises(DataError, match="unpickles nothing"):
        imported(cache, tmp_path / "out")
    assert not mark.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "file", ["path_lengths.npy", "traj_returns.npy", "observations/0.npy", "rewards/1.npy"]
)
def test_missing_and_truncated_files(cache: Path, tmp_path: Path, file: str) -> None:
    content = (cache / file).read_bytes()
    (cache / file).write_bytes(content[:-3])
    with pytest.raises(DataError, match=f"{file}: not a plain NumPy array, or truncated"):
        imported(cache, tmp_path / "a")
    (cache / file).unlink()
    with pytest.raises(DataError, match=f"{file}: missing"):
        imported(cache, tmp_path / "b", skip_bad=True)


def test_unusable_folders_and_dtypes(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="path_lengths.npy: missing"):
        imported(tmp_path / "none", tmp_path / "out")
    np.save(cache / "actions/0.npy", np.zeros((5, 2), np.complex64))
    with pytest.raises(DataError, match="actions: dtype complex64, expected floats"):
        imported(cache, tmp_path / "out")
    (cache / "observations/key").mkdir()
    with pytest.raises(DataError, match="both <i>.npy files and folders"):
        imported(cache, tmp_path / "out")
    np.save(cache / "path_lengths.npy", np.zeros(0, int))
    np.save(cache / "traj_returns.npy", np.zeros(0))
    with pytest.raises(DataError, match="no episode"):
        imported(cache, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_shapes_in_a_later_episode(cache: Path, tmp_path: Path) -> None:
    np.save(cache / "observations/2.npy", np.zeros((7, 5), np.float32))
    with pytest.raises(
        DataError, match=r"toy/line episode 2 .*: shape \(5,\) a step, expected \(4,\)"
    ):
        imported(cache, tmp_path / "out")
    np.save(cache / "observations/2.npy", np.zeros((6, 4), np.float32))
    with pytest.raises(DataError, match="7 actions and observations of lengths {'state': 6}"):
        imported(cache, tmp_path / "out")
    assert EpisodeStore(tmp_path / "out").num_episodes == 2
