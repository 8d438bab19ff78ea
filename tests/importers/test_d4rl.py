"""D4RL files: where episodes end, the published returns, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_episodes import Raw, numbers, write_d4rl

from db1.errors import ConfigError, DataError
from db1.importers import ImportContext, ImportSummary
from db1.importers.d4rl import D4rlOptions, dataset_name, datasets, import_d4rl
from db1.store.episodes import EpisodeStore

h5py = pytest.importorskip("h5py", reason='pip install "db1[import]" runs it')


def imported(source: str | Path, out: Path, **options: Any) -> ImportSummary:
    return import_d4rl(str(source), out, D4rlOptions(**options), ImportContext())


@pytest.fixture
def episodes() -> list[Raw]:
    return [numbers(length, seed) for seed, length in enumerate([5, 3, 9, 1, 4])]


@pytest.fixture
def file(tmp_path: Path, episodes: list[Raw]) -> Path:
    return Path(write_d4rl(tmp_path / "source", episodes))


def change(file: Path, **arrays: Any) -> None:
    """Replaces arrays of a file; None removes one."""
    with h5py.File(file, "a") as opened:
        for key, array in arrays.items():
            if key in opened:
                del opened[key]
            if array is not None:
                opened[key] = array


def test_task_and_references_of_published_files(tmp_path: Path, episodes: list[Raw]) -> None:
    known = datasets()
    assert known["hopper-medium-v2"]["expert"] == 3234.3
    assert known["kitchen-partial-v0"] == {
        "file": "kitchen_microwave_kettle_light_slider-v0.hdf5",
        "random": 0.0,
        "expert": 4.0,
        "max_steps": 280,
    }
    assert len({entry["file"] for entry in known.values()}) == len(known) == 116
    assert all(entry["random"] < entry["expert"] for entry in known.values())
    assert dataset_name(Path("x/walker_mixed.hdf5"), None) == "walker2d-medium-replay-v0"
    assert dataset_name(Path("pen-human-v1.hdf5"), None) == "pen-human-v1"
    assert dataset_name(Path("mine.hdf5"), None) is None
    with pytest.raises(ConfigError, match="unknown to D4RL; did you mean 'hopper-medium-v2'"):
        dataset_name(Path("mine.hdf5"), "hoper-medium-v2")
    source = Path(write_d4rl(tmp_path / "s", episodes)).rename(tmp_path / "hopper_medium-v2.hdf5")
    imported(source, tmp_path / "out")
    header = EpisodeStore(tmp_path / "out").header
    assert header.task == "d4rl/hopper-medium-v2"
    assert header.origin["references"] == {"random": -20.272305, "expert": 3234.3}
    assert header.origin["dataset"] == "hopper-medium-v2"


def test_the_filter_uses_the_published_expert(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no episode to store .*min-return-share: 5"):
        imported(file, tmp_path / "out", dataset="hopper-expert-v2", min_return_share=0.8)
    summary = imported(file, tmp_path / "o", dataset="kitchen-mixed-v0", min_return_share=0.8)
    assert "kept returns from 3.2 on: 0.8 of the expert's 4 (published)" in summary.notes[-1]


def test_steps_behind_the_last_end(file: Path, tmp_path: Path, episodes: list[Raw]) -> None:
    cut = 2
    with h5py.File(file) as opened:
        arrays = {k: opened[k][:-cut] for k in opened if k != "infos"}
    change(file, **arrays)
    summary = imported(file, tmp_path / "out")
    assert summary.num_stored == 4
    assert "dropped the last, incomplete episode of 2 steps" in summary.notes[0]
    summary = imported(file, tmp_path / "kept", keep_incomplete=True)
    store = EpisodeStore(tmp_path / "kept")
    assert "kept the last, incomplete episode of 2 steps" in summary.notes[0]
    assert store.lengths.tolist() == [5, 3, 9, 1, 2] and not store.terminations[-1]


def test_files_without_timeouts(file: Path, tmp_path: Path, episodes: list[Raw]) -> None:
    change(file, timeouts=None)
    with pytest.raises(DataError, match="no array 'timeouts'.*--max-steps, --cut-at-jumps"):
        imported(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = imported(file, tmp_path / "jumps", cut_at_jumps=True, keep_incomplete=True)
    assert EpisodeStore(tmp_path / "jumps").lengths.tolist() == [5, 3, 9, 1, 4]
    assert "where next_observations does not go on" in summary.notes[0]
    change(file, next_observations=None)
    with pytest.raises(DataError, match="no array 'next_observations'; the file has actions"):
        imported(file, tmp_path / "out", cut_at_jumps=True)
    # terminals after steps 8 and 18 (episodes 1 and 3); at most 6 steps else
    summary = imported(file, tmp_path / "steps", max_steps=6)
    assert EpisodeStore(tmp_path / "steps").lengths.tolist() == [6, 2, 6, 4]
    assert summary.notes[0].endswith("cut after 6 steps") and "of 4 steps" in summary.notes[1]
    imported(file, tmp_path / "known", dataset="hopper-expert-v2", keep_incomplete=True)
    assert EpisodeStore(tmp_path / "known").lengths.tolist() == [8, 10, 4]


def test_discrete_actions_and_grids(file: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grids = rng.integers(0, 11, (22, 7, 7, 3), dtype=np.uint8)
    change(file, observations=grids, actions=np.arange(22) % 5)
    imported(file, tmp_path / "out")
    store = EpisodeStore(tmp_path / "out")
    assert store.spec.action.num_values == 5
    assert store.spec.observation["state"].num_values == grids.max() + 1
    np.testing.assert_array_equal(store.read(2).observations["state"], grids[8:17])
    with pytest.raises(DataError, match=r"line-test-v0 episode 0 .* value 3, expected 0..2"):
        imported(file, tmp_path / "few", num_actions=3)
    imported(file, tmp_path / "more", num_actions=9)
    assert EpisodeStore(tmp_path / "more").spec.action.num_values == 9


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key(file: Path, tmp_path: Path, key: str) -> None:
    change(file, **{key: None})
    with pytest.raises(DataError, match=f"no array '{key}'; the file has "):
        imported(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_lengths_and_dtypes(file: Path, tmp_path: Path) -> None:
    change(file, rewards=np.zeros(21))
    with pytest.raises(DataError, match="arrays of different lengths .*'rewards': 21"):
        imported(file, tmp_path / "out")
    change(file, rewards=np.zeros(22), actions=np.zeros((22, 2), complex))
    with pytest.raises(DataError, match="array 'actions' has dtype complex128"):
        imported(file, tmp_path / "out")
    texts = np.array(["x"] * 22, dtype=h5py.string_dtype())
    change(file, actions=texts)
    with pytest.raises(DataError, match="array 'actions' has dtype object"):
        imported(file, tmp_path / "out")


def test_files_that_are_no_hdf5(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable HDF5 file, or a truncated one"):
        imported(file, tmp_path / "out")
    file.write_text("no")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        imported(file, tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file"):
        imported(tmp_path / "none.hdf5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_under_the_same_name_is_refused(
    file: Path, tmp_path: Path, episodes: list[Raw]
) -> None:
    imported(file, tmp_path / "out", max_episodes=2)
    with h5py.File(file, "a") as opened:
        opened["rewards"][-1] = 77.0
    with pytest.raises(DataError, match="another header .*origin.fingerprint"):
        imported(file, tmp_path / "out")


def test_values_in_other_files_are_refused(tmp_path: Path, file: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["observations"] = np.zeros((22, 3), dtype=np.float32)
    layout = h5py.VirtualLayout(shape=(22, 3), dtype="f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "observations", shape=(22, 3))
    content = file.read_bytes()

    def external(opened: Any) -> None:
        outside = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        opened.create_dataset("observations", (22, 3), dtype="f4", external=outside)

    def link(opened: Any) -> None:
        opened["observations"] = h5py.ExternalLink("gone.hdf5", "observations")

    def virtual(opened: Any) -> None:
        opened.create_virtual_dataset("observations", layout)

    for make, said in (
        (external, "'observations' is an array whose values lie in .*secret.bin"),
        (link, "'observations' is a link to /?observations of gone.hdf5, which is missing"),
        (virtual, "'observations' is a virtual array"),
    ):
        file.write_bytes(content)
        with h5py.File(file, "a") as opened:
            del opened["observations"]
            make(opened)
        with pytest.raises(DataError, match=said):
            imported(file, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_soft_links_stay_in_the_file(tmp_path: Path, file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened.move("observations", "kept")
        opened["observations"] = h5py.SoftLink("/kept")
    assert imported(file, tmp_path / "out").num_stored == 5


def test_cuts_act_beside_timeouts(tmp_path: Path) -> None:
    """Four trajectories of 10, 10, 3 and 3 steps; the end of the second one is not marked."""
    raw = [numbers(length, seed) for seed, length in enumerate([10, 10, 3, 3])]
    file = Path(write_d4rl(tmp_path / "source", raw))
    with h5py.File(file) as opened:
        terminals, timeouts = opened["terminals"][()], opened["timeouts"][()]
    for marks in (terminals, timeouts):
        marks[19] = False
    change(file, terminals=terminals, timeouts=timeouts)
    for name, options in (("jumps", {"cut_at_jumps": True}), ("steps", {"max_steps": 10})):
        summary = imported(file, tmp_path / name, **options)
        assert EpisodeStore(tmp_path / name).lengths.tolist() == [10, 10, 3, 3]
        assert "1 more ends than the file marks" in " ".join(summary.notes)


def test_a_goal_that_is_held(tmp_path: Path) -> None:
    """Terminals on every step at the goal: an episode ends at the first of them."""
    raw = [numbers(10, seed) for seed in range(3)]
    file = Path(write_d4rl(tmp_path / "source", raw))
    steps = np.arange(30) % 10
    change(file, terminals=steps >= 6, timeouts=steps == 9)
    summary = imported(file, tmp_path / "out")
    assert EpisodeStore(tmp_path / "out").lengths.tolist() == [7, 7, 7]
    assert "dropped 9 steps at a goal that is held" in " ".join(summary.notes)
    summary = imported(file, tmp_path / "each", terminals="each")
    assert EpisodeStore(tmp_path / "each").lengths.tolist() == [7, 1, 1, 1] * 3
    assert "9 of 12 episodes have one step" in " ".join(summary.notes)
    imported(file, tmp_path / "whole", terminals="none")
    store = EpisodeStore(tmp_path / "whole")
    assert store.lengths.tolist() == [10, 10, 10] and store.terminations.all()
    with pytest.raises(ConfigError, match="--terminals: got 'never'"):
        imported(file, tmp_path / "o", terminals="never")
    change(file, timeouts=None)
    with pytest.raises(DataError, match="no array 'timeouts', without which"):
        imported(file, tmp_path / "o", terminals="none")


def test_an_episode_of_one_step_behind_a_terminal_and_a_timeout(tmp_path: Path) -> None:
    raw = [numbers(4, 1), numbers(1, 3), numbers(1, 5), numbers(3, 0)]
    file = Path(write_d4rl(tmp_path / "source", raw))
    change(file, timeouts=np.array([0, 0, 0, 1, 1, 1, 0, 0, 1], dtype=bool))
    imported(file, tmp_path / "out")
    assert EpisodeStore(tmp_path / "out").lengths.tolist() == [4, 1, 1, 3]
