"""Recordings are the evaluated episodes, or say that they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from db1.errors import ConfigError
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import TaskSelection
from db1.evaluation.results import read_results
from db1.evaluation.settings import EvaluationConfig
from db1.viewer.entries import read_recordings
from db1.viewer.record import FilmConfig, record
from db1.viewer.selection import choose_tasks, pick_episodes

ACROBOT, CARTPOLE = "classic_control/Acrobot-v1", "classic_control/CartPole-v1"
FILM = FilmConfig(frames=16, size=64)


@pytest.fixture(scope="module")
def evaluated(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    evaluate(
        run_folder,
        EvaluationConfig(episodes=4, text=False),
        out=out,
        selection=TaskSelection(tasks=[CARTPOLE]),
    )
    return out


@pytest.fixture
def folder(evaluated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated, tmp_path / "evaluation"))


def test_films_show_the_evaluated_episodes(folder: Path) -> None:
    pytest.importorskip("pygame", reason='needs pip install "db1[classic_control]"')
    entry = read_results(folder)["tasks"][CARTPOLE]
    recording = record(folder, FILM)[CARTPOLE]
    assert recording["no_picture"] is None
    episodes = recording["episodes"]
    assert list(episodes) == ["best", "median", "worst"]
    assert episodes["best"]["return"] == max(entry["returns"])
    assert episodes["worst"]["return"] == min(entry["returns"])
    for episode in episodes.values():
        number = episode["episode"]
        assert episode["same"] and episode["seed"] == entry["seeds"][number]
        assert episode["return"] == entry["returns"][number]
        assert episode["length"] == entry["lengths"][number]
        with Image.open(folder / "videos" / CARTPOLE / episode["file"]) as film:
            # Equal frames in a row become one.
            assert 1 < film.n_frames <= episode["frames"] <= 17 and max(film.size) == 64
    assert read_recordings(folder, read_results(folder)) == {CARTPOLE: recording}


def test_recordings_are_kept_and_made_again_when_asked(folder: Path) -> None:
    record(folder, FILM)
    film = folder / "videos" / CARTPOLE / "best.webp"
    before = film.stat().st_mtime_ns
    record(folder, FILM)
    assert film.stat().st_mtime_ns == before
    film.unlink()
    record(folder, FILM)
    assert film.is_file()
    record(folder, FilmConfig(frames=16, size=48))
    with Image.open(film) as again:
        assert max(again.size) == 48


def test_what_takes_the_program_along_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulator that kills its process is tried twice, then the others go on."""
    import db1.viewer.record as recording

    def die(*_: object) -> None:
        raise KeyboardInterrupt  # no Exception: like a signal, it ends the program

    with monkeypatch.context() as broken:
        broken.setattr(recording, "watch", die)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                record(folder, FILM)
        assert "the program ended" in record(folder, FILM)[CARTPOLE]["failure"]
    assert "failure" in record(folder, FILM)[CARTPOLE]
    assert record(folder, FILM, overwrite=True)[CARTPOLE]["episodes"]["best"]["same"]


def test_a_failure_is_told_and_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import db1.viewer.record as recording

    def fail(*_: object) -> None:
        raise AssertionError("no such thing")

    with monkeypatch.context() as broken:
        broken.setattr(recording, "watch", fail)
        assert record(folder, FILM)[CARTPOLE]["failure"] == "AssertionError: no such thing"
    assert "failure" not in record(folder, FILM)[CARTPOLE]


def test_other_returns_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["tasks"][CARTPOLE]["returns"][0] += 3
    path.write_text(json.dumps(results))
    episodes = record(folder, FILM)[CARTPOLE]["episodes"].values()
    wrong = [episode for episode in episodes if not episode["same"]]
    assert [episode["episode"] for episode in wrong] == [0]
    assert wrong[0]["return"] == wrong[0]["evaluated_return"] - 3


def test_other_weights_are_refused(folder: Path, run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(run_folder, other)
    shutil.rmtree(other / "checkpoints/step-00000002")
    (other / "checkpoints/latest").write_text("step-00000001")
    with pytest.raises(ConfigError, match="not the evaluated ones"):
        record(folder, FILM, run=other)
    with pytest.raises(ConfigError, match="say where with --run"):
        record(folder, FILM, run=tmp_path / "nowhere")
    assert not (folder / "videos").exists()


def test_old_recordings_of_new_results_are_left_out(folder: Path) -> None:
    record(folder, FILM)
    results = read_results(folder)
    results["tasks"][CARTPOLE]["seeds"] = [1, 2, 3, 4]
    assert read_recordings(folder, results) == {}


def test_which_episodes_and_tasks() -> None:
    assert pick_episodes([3.0]) == {"best": 0}
    assert pick_episodes([1.0, 3.0]) == {"best": 1, "worst": 0}
    assert pick_episodes([5.0, 1.0, 9.0, 7.0, 3.0]) == {"best": 2, "median": 0, "worst": 1}
    assert sorted(pick_episodes([2.0] * 10).values()) == [0, 5, 9]
    tasks = {f"a/{i}": {"normalised": i / 10} for i in range(9)} | {"b/x": {"normalised": None}}
    results = {"tasks": tasks}
    assert choose_tasks(results, per_suite=3) == ["a/8", "a/4", "a/0", "b/x"]
    assert choose_tasks(results, suites=["b"]) == ["b/x"]
    assert choose_tasks(results, tasks=["a/3"]) == ["a/3"]
    with pytest.raises(ConfigError, match="not among the 10"):
        choose_tasks(results, tasks=["a/99"])
    with pytest.raises(ConfigError, match="not evaluated"):
        choose_tasks(results, suites=["c"])
