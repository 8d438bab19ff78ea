"""Which returns normalise a score: the store's, measured ones, published ones, or none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from db1.errors import ConfigError, DataError
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import EvaluationData, TaskSelection
from db1.evaluation.references import MissingReference, find_references
from db1.evaluation.settings import EvaluationConfig
from db1.report import headline, write_report
from db1.suites import SUITES, parse_task_id
from db1.suites.scores import add_measurement

CARTPOLE, ACROBOT = "classic_control/CartPole-v1", "classic_control/Acrobot-v1"
REACH = "metaworld/reach-v3"
RANDOM = EvaluationConfig(episodes=2, text=False, policy="random")
MEASUREMENT = {"episodes": 5, "seeds": [1_000_000, 1_000_004]}


def measured(folder: Path, task: str, random: float, expert: float | None, **version: str) -> Path:
    suite, name = parse_task_id(task)
    now = suite.environment_version(name) | version
    found = {"random": {"mean": random, **MEASUREMENT}}
    if expert is not None:
        found["expert"] = {"mean": expert, **MEASUREMENT}
    add_measurement(folder, task, now, "a.b.C", found)
    return folder


def version_of(task: str) -> dict[str, str]:
    suite, name = parse_task_id(task)
    return suite.environment_version(name)


def find(task: str, choice: str | None, folder: Path, scores: Path | None = None):
    return find_references(task, choice, folder, version_of(task), scores)


def test_the_store_comes_first_then_ones_own_scores_then_those_of_db1(data_root: Path, tmp_path):
    scores = measured(tmp_path, CARTPOLE, 1.0, 101.0)
    stored = json.loads((data_root / CARTPOLE / "references.json").read_text())
    found = find(CARTPOLE, None, data_root / CARTPOLE, scores)
    assert (found.random, found.expert) == (stored["random"]["mean"], stored["expert"]["mean"])
    found = find(CARTPOLE, None, tmp_path, scores)
    assert (found.random, found.expert, found.details["name"]) == (1.0, 101.0, "measured")
    assert find(CARTPOLE, "measured", data_root / CARTPOLE, scores).expert == 101.0
    bundled = find(CARTPOLE, None, tmp_path)
    assert bundled.expert == 500.0 and bundled.mismatch is None
    assert bundled.details["random"]["episodes"] >= 5


def test_measured_scores_of_another_version_are_not_taken(tmp_path: Path) -> None:
    scores = measured(tmp_path, CARTPOLE, 1.0, 101.0, horizon="200")
    assert find(CARTPOLE, None, tmp_path, scores).expert == 500.0
    scores = measured(tmp_path, CARTPOLE, 1.0, None)
    assert find(CARTPOLE, None, tmp_path, scores).expert == 500.0


def test_published_references_tell_that_they_are_of_another_environment(tmp_path: Path) -> None:
    found = find(REACH, "jat", tmp_path)
    assert found.expert == pytest.approx(681.3714) and "Meta-World v2" in found.mismatch
    with pytest.raises(MissingReference, match=r"no reference 'db1'.*--reference measured"):
        find(CARTPOLE, "db1", tmp_path)
    assert find(REACH, "none", tmp_path) is None


def test_humans_are_references_of_atari(tmp_path: Path) -> None:
    pytest.importorskip("ale_py", reason="pip install 'db1[atari]'")
    human = find("atari/Pong", "atari-human", tmp_path)
    assert human.expert == 14.6 and human.random == -20.7


def test_a_span_of_nothing_is_no_reference(tmp_path: Path) -> None:
    scores = measured(tmp_path, CARTPOLE, 7.0, 7.0)
    with pytest.raises(MissingReference, match=r"random 7 and expert 7, do not span a score"):
        find(CARTPOLE, None, tmp_path, scores)


def test_a_named_reference_of_another_environment_must_be_allowed(run_folder: Path, tmp_path):
    config = replace(RANDOM, reference="jat")
    options = {"selection": TaskSelection(tasks=["babyai/GoToObj", "metaworld/reach-v3"])}
    with pytest.raises(DataError, match=r"reach-v3.*Meta-World v2.*--allow-version-mismatch"):
        evaluate(run_folder, config, out=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    options["selection"] = TaskSelection(tasks=["babyai/GoToObj"])
    results = evaluate(run_folder, config, out=tmp_path / "a", **options)
    assert results["tasks"]["babyai/GoToObj"]["expert"] == pytest.approx(0.9302)
    assert results["tasks"]["babyai/GoToObj"]["reference"]["name"] == "jat"
    assert results["settings"]["reference"] == "jat" and results["version_mismatches"] == {}


def test_raw_returns_without_a_reference(run_folder: Path, data_root: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    store_only = replace(RANDOM, reference="store")
    data = tmp_path / "data"
    (data / "classic_control").mkdir()
    (data / CARTPOLE).symlink_to(data_root / CARTPOLE)
    with pytest.raises(MissingReference, match=ACROBOT):
        evaluate(run_folder, store_only, out=tmp_path / "out", data=EvaluationData(data=data))
    assert not (tmp_path / "out").exists()
    allowed = {
        "out": tmp_path / "out",
        "data": EvaluationData(data=data, allow_missing_reference=True),
    }
    results = evaluate(run_folder, store_only, **allowed)
    raw = results["tasks"][ACROBOT]
    assert len(raw["returns"]) == 2
    assert raw["reference"] is raw["normalised"] is raw["interval"] is raw["random"] is None
    assert list(results["missing_references"]) == [ACROBOT]
    assert results["summary"]["num_tasks"] == 1
    assert headline(results).startswith("0 of 1 task ")
    assert headline(results).endswith("; 1 more without a reference")
    text = write_report(tmp_path / "out", html=tmp_path / "page.html").read_text()
    assert f"| {ACROBOT} | no reference | - | -500 | - | - |" in text
    assert "without reference returns" in text
    assert ACROBOT in (tmp_path / "page.html").read_text()
    assert evaluate(run_folder, store_only, **allowed) == results


def test_a_suite_that_is_not_installed_costs_its_own_tasks(run_folder: Path, tmp_path: Path):
    if SUITES["dmlab"].missing() is None:
        pytest.skip("DeepMind Lab is installed here")
    tasks = ["dmlab/rooms_watermaze", CARTPOLE]
    results = evaluate(run_folder, RANDOM, out=tmp_path, selection=TaskSelection(tasks=tasks))
    assert list(results["tasks"]) == [CARTPOLE]
    assert "deepmind_lab" in results["failures"]["dmlab/rooms_watermaze"]


def test_no_reference_at_all(run_folder: Path, tmp_path: Path) -> None:
    results = evaluate(run_folder, replace(RANDOM, reference="none"), out=tmp_path)
    assert results["summary"]["num_tasks"] == 0 and results["missing_references"] == {}
    assert all(entry["normalised"] is None for entry in results["tasks"].values())
    assert "0 of 0 tasks" in write_report(tmp_path).read_text()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reference: got 'jta'.*did you mean 'jat'"):
        EvaluationConfig(reference="jta")
