"""Reference scores: their files, names, versions and provenance."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db1.errors import DataError
from db1.importers.d4rl import datasets
from db1.importers.jat_tasks import jat_task_id
from db1.suites import SUITES, parse_task_id, task_ids
from db1.suites.scores import (
    add_measurement,
    datasets_of,
    measured_of,
    published_names,
    published_of,
    read_measured,
    references_of,
)
from db1.suites.scores.measured import FOLDER
from db1.suites.seeds import check_seed

CARTPOLE = "classic_control/CartPole-v1"
NOW = {"id": CARTPOLE, "gymnasium": "9.9", "horizon": "500"}
ALL_TASKS = task_ids()
PUBLISHED = [(name, task) for name in published_names() for task in ALL_TASKS]


def measurement(mean: float, episodes: int = 3) -> dict[str, object]:
    return {"mean": mean, "episodes": episodes, "policy": "someone"}


def test_collections() -> None:
    assert published_names() == ("atari-human", "d4rl", "db1", "jat")
    counts = dict.fromkeys(published_names(), 0)
    for name, task in PUBLISHED:
        entry = published_of(task, name)
        if entry is None:
            continue
        counts[name] += 1
        assert entry["source"] and entry["environment"] and entry["name"]
        assert entry["comparable"] is not ("why_not" in entry)
        known = [entry[key] for key in ("random", "expert", "human") if key in entry]
        assert len(known) >= 2 and all(map(math.isfinite, known))
    assert counts == {"atari-human": 57, "d4rl": 21, "db1": 387, "jat": 157}


@pytest.mark.parametrize("name", published_names())
def test_every_published_task_is_one_of_db1(name: str) -> None:
    folder = FOLDER.parent / "published"
    tasks = json.loads((folder / f"{name}.json").read_text())["tasks"]
    assert set(tasks) <= set(ALL_TASKS)


@pytest.mark.parametrize(
    ("task", "name", "random", "best"),
    [
        ("atari/BankHeist", "jat", 14.2, None),
        ("atari/Alien", "atari-human", 227.8, 7127.7),
        ("mujoco/Ant-v5", "jat", -59.9454, 5846.4161),
        ("mujoco/Hopper-v5", "d4rl", -20.272305, 3234.3),
        ("babyai/GoTo", "jat", 0.1305, 0.917),
        ("babyai/PutNextS7N4", "jat", 0.0017, 0.9597),
        ("procgen/bigfish-hard", "db1", 0, 32.17),
        ("dmlab/rooms_watermaze", "db1", 4.065, 53.65),
        ("dmlab/skymaze_irreversible_path_hard", "db1", 0.1, 38.55),
        ("modular_rl/cheetah_2_back", "db1", 0.0, 1051.44),
        ("tsp/tsp100-78", "db1", -50.453, -6.783),
    ],
)
def test_names_are_mapped(task: str, name: str, random: float, best: float | None) -> None:
    found = references_of(task)[name]
    assert found.random == random
    assert best is None or found.best == best


def test_which_published_scores_compare() -> None:
    assert not references_of("metaworld/reach-v3")["db1"].comparable
    assert "v2" in references_of("metaworld/reach-v3")["db1"].why_not
    assert references_of("dmc/walker-run")["db1"].comparable
    assert not references_of("tsp/tsp100-0")["db1"].comparable


def test_d4rl_agrees_with_the_importer() -> None:
    for task in ALL_TASKS:
        entry = published_of(task, "d4rl")
        if entry is not None:
            dataset = datasets()[entry["dataset"].removeprefix("d4rl ")]
            assert (entry["random"], entry["expert"]) == (dataset["random"], dataset["expert"])


def test_jat_agrees_with_the_importer() -> None:
    for task in ALL_TASKS:
        entry = published_of(task, "jat")
        if entry is not None:
            assert jat_task_id(entry["name"]) == task
            assert entry["dataset"] == f"jat {entry['name']}"


def test_data_sets_that_hold_an_expert() -> None:
    assert datasets_of("mujoco/Hopper-v5") == (
        "minari mujoco/hopper/expert-v0",
        "d4rl hopper-expert-v2",
        "jat mujoco-hopper",
    )
    assert "jat atari-pong" in datasets_of("atari/Pong")
    assert datasets_of("atari/Pong")[0] == "minari atari/pong/expert-v0 --frames grey-max"
    assert datasets_of("atari/Surround") == ("jat atari-surround",)
    assert datasets_of("babyai/Pickup")[0] == "minari minigrid/BabyAI-Pickup/optimal-v0"
    assert datasets_of("vizdoom/Basic-v1") == ()
    listed = json.loads((FOLDER.parent / "datasets.json").read_text())["tasks"]
    assert set(listed) <= set(ALL_TASKS)


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_bundled_measurements_are_whole(suite: str) -> None:
    for task in task_ids(suite):
        for entry in read_measured(task):
            _, name = parse_task_id(task)
            horizon = SUITES[suite].horizon(name)
            assert entry.environment["id"] == task and entry.wrapper.startswith("db1.suites.")
            for found in filter(None, (entry.random, entry.expert)):
                assert found["min"] <= found["mean"] + 1e-9 and found["mean"] <= found["max"] + 1e-9
                assert found["episodes"] >= 1 and found["std"] >= 0
                assert found["length"]["max"] <= (horizon or found["length"]["max"])
                assert {"seconds", "db1", "python", "date", "success_rate"} <= set(found)
                for seed in found["seeds"]:
                    check_seed("reference", seed)


def test_measurements_of_several_versions_stay_apart(tmp_path: Path) -> None:
    older = NOW | {"gymnasium": "0.9"}
    add_measurement(tmp_path, CARTPOLE, older, "a.B", {"random": measurement(9.0)})
    add_measurement(tmp_path, CARTPOLE, NOW, "a.B", {"random": measurement(20.0)})
    add_measurement(tmp_path, CARTPOLE, NOW, "a.B", {"expert": measurement(400.0)})
    add_measurement(tmp_path, CARTPOLE, NOW, "a.B", {"expert": measurement(500.0)})
    assert len(read_measured(CARTPOLE, tmp_path)) == 2
    found = measured_of(CARTPOLE, NOW, tmp_path)
    assert (found.random["mean"], found.expert["mean"]) == (20.0, 500.0)
    assert measured_of(CARTPOLE, older, tmp_path).expert is None
    assert measured_of(CARTPOLE, NOW | {"horizon": "200"}, tmp_path) is None


def test_another_version_is_shown_but_does_not_compare(tmp_path: Path) -> None:
    add_measurement(tmp_path, CARTPOLE, NOW, "a.B", {"random": measurement(20.0)})
    found = references_of(CARTPOLE, tmp_path)["measured"]
    assert found.random == 20.0 and not found.comparable
    assert "gymnasium: 9.9 then" in found.why_not


def test_pixels_have_the_returns_of_the_state(tmp_path: Path) -> None:
    state, pixels = "dmc/cartpole-balance", "dmc/cartpole-balance-pixels"
    version = {"id": state, "dm-control": "1"}
    add_measurement(tmp_path, state, version, "a.B", {"random": measurement(3.0)})
    found = measured_of(pixels, version | {"id": pixels}, tmp_path)
    assert found.random["mean"] == 3.0 and found.measured_on == state
    add_measurement(tmp_path, pixels, version | {"id": pixels}, "a.B", {"random": measurement(4.0)})
    assert measured_of(pixels, version | {"id": pixels}, tmp_path).random["mean"] == 4.0
    assert read_measured("tsp/uniform20", tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"format": "something", "suite": "classic_control", "tasks": {}}',
        '{"format": "db1-scores-1", "suite": "tsp", "tasks": {}}',
        '{"format": "db1-scores-1", "suite": "classic_control", "tasks": {"x": [{}]}}',
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classic_control.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"classic_control\.json"):
        read_measured(CARTPOLE, tmp_path)
    with pytest.raises(DataError, match=r"classic_control\.json"):
        add_measurement(tmp_path, CARTPOLE, NOW, "a.B", {"random": measurement(1.0)})
    assert path.read_text() == content


def test_two_that_measure_at_once_lose_nothing(tmp_path: Path) -> None:
    names = [f"classic_control/{i}" for i in range(40)]

    def add(name: str) -> None:
        add_measurement(tmp_path, name, {"id": name}, "a.B", {"random": measurement(1.0)})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, names))
    content = json.loads((tmp_path / "classic_control.json").read_text())
    assert sorted(content["tasks"]) == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == ["classic_control.json"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another --out"):
        add_measurement(tmp_path / "file", CARTPOLE, NOW, "a.B", {"random": measurement(1.0)})


def test_scores_of_a_suite_that_is_not_installed(tmp_path: Path) -> None:
    if SUITES["dmlab"].missing() is None:
        pytest.skip("DeepMind Lab is installed here")
    level = "dmlab/rooms_watermaze"
    add_measurement(tmp_path, level, {"id": level}, "a.B", {"random": measurement(1.0)})
    found = references_of(level, tmp_path)["measured"]
    assert not found.comparable and "not installed" in found.why_not
