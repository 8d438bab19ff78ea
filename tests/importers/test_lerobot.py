"""LeRobot data sets that LeRobot's own writers made: `lerobot_sets.zip`.

    v3_video, v3_image      lerobot 0.4.4 (format v3.0), H.264 and PNG
    v21_video, v21_image    lerobot 0.3.3 (format v2.1), AV1 and PNG

Three episodes of 5, 3 and 4 steps at 10 frames a second. Step t of episode e has the state
(e, t, e + t / 8), the action (t / 8 - 1 / 2, e / 4), the reward t + 1 and a picture of 32x48 that
is (40 e + 60, 0, 0) on the left and (0, 40 t + 40, 0) on the right; episodes 0 and 2 succeed.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from db1.errors import ConfigError, Db1Error
from db1.importers import ImportContext, ImportSummary
from db1.importers.lerobot import LerobotOptions, import_lerobot
from db1.store.episodes import EpisodeStore

pytest.importorskip("pyarrow", reason='pip install "db1[import]" runs it')
pytest.importorskip("av", reason='pip install "db1[import]" runs it')

SETS = ("v21_image", "v21_video", "v3_image", "v3_video")
LENGTHS = (5, 3, 4)
TEXTS = ("push the red block", "open the drawer", "push the red block")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).with_name("lerobot_sets.zip")) as file:
        file.extractall(tmp_path / "sets")
    return tmp_path / "sets"


def imported(source: Path, out: Path, **options: object) -> ImportSummary:
    return import_lerobot(str(source), out, LerobotOptions(**options), ImportContext())


def state(episode: int, steps: range | list[int]) -> np.ndarray:
    return np.array([[episode, t, episode + t / 8] for t in steps], np.float32)


@pytest.mark.parametrize("name", SETS)
def test_every_version_gives_the_same_episodes(folder: Path, tmp_path: Path, name: str) -> None:
    summary = imported(folder / name, tmp_path / "out")
    assert summary.num_stored == 3 and summary.source == str(folder / name)
    store = EpisodeStore(tmp_path / "out")
    assert store.header.task == f"lerobot/{name}"
    assert set(store.header.spec.observation) == {"state", "images.top"}
    for number, (length, text) in enumerate(zip(LENGTHS, TEXTS, strict=True)):
        episode = store.read(number)
        assert len(episode) == length and episode.metadata["instruction"] == text
        assert np.array_equal(episode.observations["state"], state(number, range(length)))
        expected = [[t / 8 - 0.5, number / 4] for t in range(length)]
        assert np.array_equal(episode.actions, np.array(expected, np.float32))
        assert episode.rewards.tolist() == [t + 1 for t in range(length)]
        assert episode.success is (number != 1) and episode.terminated
        pictures = episode.observations["images.top"]
        assert pictures.shape == (length, 32, 48, 3)
        slack = 0 if "image" in name else 12  # of the codec
        for t, picture in enumerate(pictures.astype(int)):
            left, right = picture[4:-4, 4:18].mean((0, 1)), picture[4:-4, 30:-4].mean((0, 1))
            assert np.abs(left - [40 * number + 60, 0, 0]).max() <= slack
            assert np.abs(right - [0, 40 * t + 40, 0]).max() <= slack


def test_v20_is_read_as_v21(folder: Path, tmp_path: Path) -> None:
    rewrite(folder / "v21_image/meta/info.json", codebase_version="v2.0")
    imported(folder / "v21_image", tmp_path / "out")
    assert EpisodeStore(tmp_path / "out").header.origin["version"] == "v2.0"


@pytest.mark.parametrize("name", SETS)
def test_fewer_frames_a_second(folder: Path, tmp_path: Path, name: str) -> None:
    imported(folder / name, tmp_path / "out", fps=5)
    store = EpisodeStore(tmp_path / "out")
    assert [len(store.read(i)) for i in range(3)] == [3, 2, 2]
    assert np.array_equal(store.read(0).observations["state"], state(0, [0, 2, 4]))
    assert store.read(0).rewards.tolist() == [1 + 2, 3 + 4, 5]
    green = store.read(2).observations["images.top"][:, 16, 40, 1].astype(int)
    assert np.abs(green - [40, 120]).max() <= 12
    with pytest.raises(ConfigError, match="has 10 frames a second"):
        imported(folder / name, tmp_path / "other", fps=20)


def test_one_of_the_tasks_and_its_text_as_an_observation(folder: Path, tmp_path: Path) -> None:
    options = {"only": TEXTS[0], "instruction_field": True, "fields": "observation.state"}
    imported(folder / "v3_video", tmp_path / "out", **options)
    store = EpisodeStore(tmp_path / "out")
    assert store.num_episodes == 2 and set(store.header.spec.observation) == {
        "state",
        "instruction",
    }
    assert store.read(1).metadata["episode_index"] == 2
    assert store.read(1).observations["instruction"].tolist() == [TEXTS[0]] * 4
    with pytest.raises(ConfigError, match="it has open the drawer; push the red block"):
        imported(folder / "v3_video", tmp_path / "other", only="close the drawer")
    with pytest.raises(ConfigError, match="no feature 'observation.stat'"):
        imported(folder / "v3_video", tmp_path / "other", fields="observation.stat")


@pytest.mark.parametrize("name", SETS)
def test_statistics_are_bounds_of_the_actions(folder: Path, tmp_path: Path, name: str) -> None:
    imported(folder / name, tmp_path / "out", action_bounds="data")
    store = EpisodeStore(tmp_path / "out")
    assert store.header.origin["action_low"] == [-0.5, 0]
    assert store.header.origin["action_high"] == [0, 0.5]
    assert store.read(1).actions.tolist() == [[-1, 0], [-0.5, 0], [0, 0]]


def test_goes_on_where_it_was_killed(folder: Path, tmp_path: Path) -> None:
    imported(folder / "v3_video", tmp_path / "out", max_episodes=1)
    assert imported(folder / "v3_video", tmp_path / "out").num_before == 1
    imported(folder / "v3_video", tmp_path / "whole")
    for one in (tmp_path / "out", tmp_path / "whole"):
        assert EpisodeStore(one).num_episodes == 3
    bins = sorted(path.name for path in (tmp_path / "whole").glob("*.bin"))
    assert all(
        (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        for name in bins
    )


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


VIDEO_V2 = "videos/chunk-000/observation.images.top/episode_000001.mp4"
VIDEO_V3 = "videos/observation.images.top/chunk-000/file-000.mp4"


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("v21_video", lambda f: (f / VIDEO_V2).unlink(), "episode 1: .*000001.mp4: no such file"),
        ("v21_video", lambda f: cut(f / VIDEO_V2), "000001.mp4: "),
        ("v3_video", lambda f: (f / VIDEO_V3).unlink(), "file-000.mp4: no such file"),
        (
            "v3_video",
            lambda f: cut(f / "data/chunk-000/file-000.parquet"),
            "file-000.parquet: not a parquet file, or truncated",
        ),
        (
            "v21_image",
            lambda f: cut(f / "data/chunk-000/episode_000001.parquet"),
            "000001.parquet: not a parquet file, or truncated",
        ),
        ("v3_image", lambda f: (f / "meta/tasks.parquet").unlink(), "tasks.parquet: no such file"),
        ("v3_image", lambda f: cut(f / "meta/episodes/chunk-000/file-000.parquet"), "truncated"),
        ("v21_image", lambda f: cut(f / "meta/info.json"), "info.json: not readable as JSON"),
        (
            "v21_image",
            lambda f: rewrite(f / "meta/info.json", codebase_version="v1.6"),
            "version 'v1.6', expected v2.0",
        ),
        (
            "v21_image",
            lambda f: rewrite(f / "meta/info.json", data_path="../{episode_index}.parquet"),
            "leads out of its folder",
        ),
        (
            "v21_image",
            lambda f: rewrite(f / "meta/info.json", data_path="{episode_index.__class__}"),
            "no such file",
        ),
        (
            "v21_image",
            lambda f: shutil.copy(
                f / "data/chunk-000/episode_000000.parquet",
                f / "data/chunk-000/episode_000001.parquet",
            ),
            "has rows of episode 0 there",
        ),
    ],
)
def test_broken_sets(folder: Path, tmp_path: Path, name: str, damage: object, said: str) -> None:
    damage(folder / name)
    with pytest.raises(Db1Error, match=said):
        imported(folder / name, tmp_path / "out")


def test_a_missing_video_costs_its_episode_only(folder: Path, tmp_path: Path) -> None:
    (folder / "v21_video" / VIDEO_V2).unlink()
    summary = imported(folder / "v21_video", tmp_path / "out", skip_bad=True)
    assert summary.num_stored == 2 and summary.counts["left out by --skip-bad"] == 1


def test_neither_folder_nor_address(tmp_path: Path) -> None:
    for source in ("no such folder", str(tmp_path / "a" / "b")):
        with pytest.raises(ConfigError, match="no folder, and no data set of the hub"):
            imported(source, tmp_path / "out")
