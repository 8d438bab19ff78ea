"""Evaluation metrics: a contract over the registry, and one of one's own from results.json on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_evaluation import episodes_of

from db1.errors import DataError
from db1.evaluation.results import read_results
from db1.metrics.compare import compare_results
from db1.metrics.episodes import METRICS, Metric, TaskEpisodes
from db1.metrics.seen import summarise_seen
from db1.metrics.summary import shown_metrics, summarise, task_metrics

EPISODES = TaskEpisodes(
    returns=np.array([0.0, 5.0, 10.0, 20.0]),
    lengths=np.array([7, 5, 3, 9]),
    successes=np.array([0.0, 1.0, np.nan, 1.0]),
    random=0.0,
    expert=10.0,
)
PICKS = np.array([[0, 1, 2, 3], [3, 3, 3, 3], [0, 0, 1, 1]])


class LongestEpisode(Metric):
    """Most steps of an episode; over tasks, the largest."""

    title = "longest"

    def of_task(self, episodes: TaskEpisodes) -> np.ndarray:
        return episodes.lengths.max(axis=-1)

    def over_tasks(self, values: np.ndarray) -> np.ndarray:
        return values.max(axis=-1)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS._own, "longest", LongestEpisode)


def test_episodes_drawn_again_are_rows() -> None:
    again = EPISODES.take(PICKS)
    assert again.returns.shape == again.lengths.shape == again.scores.shape == PICKS.shape
    np.testing.assert_array_equal(again.scores[1], [2.0] * 4)
    np.testing.assert_array_equal(again.successes[2], [0, 0, 1, 1])
    np.testing.assert_array_equal(again.mean_score, [0.875, 2.0, 0.25])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_reduces_the_last_axis(name: str) -> None:
    metric = METRICS[name]()
    assert metric.title
    value, drawn = metric.of_task(EPISODES), metric.of_task(EPISODES.take(PICKS))
    assert np.shape(value) == () and drawn.shape == (3,)
    assert drawn[0] == pytest.approx(value), "the first row is the episodes themselves"
    values = np.random.default_rng(0).uniform(size=(3, 5))
    over = metric.over_tasks(values)
    assert over.shape == (3,)
    assert [float(metric.over_tasks(row)) for row in values] == pytest.approx(over.tolist())


def test_success_is_counted_where_it_is_told() -> None:
    rate = METRICS["success_rate"]()
    assert rate.of_task(EPISODES) == pytest.approx(2 / 3)
    assert rate.of_task(episodes_of(np.ones(3))) is None
    entry = {"returns": [1.0, 2.0], "lengths": [3, 4], "reference": None}
    told = TaskEpisodes.of_entry(entry | {"successes": [True, None]})
    assert task_metrics("a/b", told) == {"success_rate": 1.0}
    for successes in ([None, None], None):
        silent = TaskEpisodes.of_entry(entry | {"successes": successes})
        assert task_metrics("a/b", silent) == {} and silent.scores is None


def test_a_metric_of_one_s_own_over_tasks(longest: None) -> None:
    few = episodes_of(np.array([0.5, 0.5]))
    tasks = {"a/one": EPISODES, "a/two": few, "b/raw": EPISODES}
    unscored = {key: getattr(EPISODES, key) for key in ("returns", "lengths", "successes")}
    tasks["b/raw"] = TaskEpisodes(**unscored, random=None, expert=None)
    summary = summarise(tasks)
    entry = summary["metrics"]["longest"]
    assert (entry["title"], entry["is_share"]) == ("longest", False)
    assert entry["num_tasks"] == 3 and entry["value"] == 9.0 == entry["interval"][1]
    assert summary["num_tasks"] == 2 and summary["by_suite"].keys() == {"a"}
    assert summary["by_suite"]["a"]["metrics"]["longest"]["num_tasks"] == 2
    assert summary["metrics"]["success_rate"]["value"] == pytest.approx(2 / 3)
    assert "longest" not in summary and "longest" not in summary["intervals"]
    del tasks["b/raw"]
    assert summary["mean_normalised"] == summarise(tasks)["mean_normalised"]
    assert summary["intervals"] == summarise(tasks)["intervals"], "raw tasks change no draw"


def test_two_evaluations_are_compared_in_it(longest: None) -> None:
    entry = {
        "returns": [1.0, 3.0], "lengths": [4, 6], "successes": [True, False], "seeds": [1, 2],
        "random": 0.0, "expert": 10.0, "reference": {},
    }  # fmt: skip
    a = {"tasks": {"a/one": entry, "a/two": entry | {"successes": [None, None]}}}
    better = entry | {"lengths": [9, 8], "successes": [True, True]}
    b = {"tasks": {"a/one": better, "a/two": entry}}
    rows = compare_results(a, b)["overall"]["statistics"]
    assert {key: rows["longest"][key] for key in ("a", "b", "difference", "num_tasks")} == {
        "a": 6.0, "b": 9.0, "difference": 3.0, "num_tasks": 2,
    }  # fmt: skip
    assert rows["longest"]["interval"] == [2.0, 5.0], "equal seeds are drawn together"
    assert rows["success_rate"]["num_tasks"] == 1 and rows["success_rate"]["difference"] == 0.5


@pytest.mark.parametrize(
    "of_task, expected",
    [
        (lambda self, episodes: episodes.lengths.max(), r"from episodes of shape \(2000, 4\)"),
        (lambda self, episodes: episodes.lengths, r"got shape \(4,\).*expected \(\); reduce"),
        (lambda self, episodes: np.full(episodes.lengths.shape[:-1], np.nan), "got nan, expected"),
        (lambda self, episodes: 1 / 0, "ZeroDivisionError: division by zero; mend it"),
    ],
)
def test_a_wrong_one_is_named(
    longest: None, monkeypatch: pytest.MonkeyPatch, of_task: Any, expected: str
) -> None:
    monkeypatch.setattr(LongestEpisode, "of_task", of_task)
    with pytest.raises(DataError, match=f"metric longest of a/one: .*{expected}"):
        summarise({"a/one": EPISODES})


@pytest.mark.parametrize(
    "over_tasks, expected",
    [
        (lambda self, values: values.max(), r"from values of shape \(2000, 1\)"),
        (lambda self, values: values.mean(-1) * np.nan, "got nan, expected a finite"),
        (lambda self, values: values[7], "IndexError"),
    ],
)
def test_one_that_is_wrong_over_tasks_is_named(
    longest: None, monkeypatch: pytest.MonkeyPatch, over_tasks: Any, expected: str
) -> None:
    monkeypatch.setattr(LongestEpisode, "over_tasks", over_tasks)
    with pytest.raises(DataError, match=f"metric longest over tasks: .*{expected}"):
        summarise({"a/one": EPISODES})


def test_results_of_before_have_the_metrics_of_their_episodes(tmp_path: Path) -> None:
    entry = {
        "episodes": 2, "seeds": [1, 2], "returns": [1.0, 3.0], "lengths": [4, 6],
        "successes": [True, False], "random": 0.0, "expert": 10.0, "reference": {},
        "normalised": 0.2, "interval": [0.1, 0.3],
    }  # fmt: skip
    summary = summarise({"a/one": TaskEpisodes.of_entry(entry)})
    del summary["metrics"], summary["by_suite"]["a"]["metrics"]
    content = {"tasks": {"a/one": entry}, "summary": summary, "settings": {}, "provenance": {}}
    (tmp_path / "results.json").write_text(json.dumps(content))
    results = read_results(tmp_path)
    assert results["tasks"]["a/one"]["metrics"] == {"success_rate": 0.5}
    assert shown_metrics(results)["success_rate"].title == "success"
    foreign = results["tasks"]["a/one"]["metrics"] | {"of_a_plug_in": 1.0}
    results["tasks"]["a/one"]["metrics"] = foreign
    assert shown_metrics(results)["of_a_plug_in"].title == "of_a_plug_in"
    assert summarise_seen(results | {"provenance": {"learned": []}})["unseen"]["num_tasks"] == 1


def test_a_plug_in_brings_one(run_folder: Path, data_root: Path, tmp_path: Path) -> None:
    """The documentation's, through `db1 eval` with its table, `db1 report` and `db1 compare`."""
    task = "classic_control/CartPole-v1"
    page = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
    code = page.split("### Metrics")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "steadiness.py").write_text(code)

    def db1(*arguments: object) -> str:
        start = "from db1.cli.main import main; main()"
        command = [sys.executable, "-c", start, *map(str, arguments), "--plugin", "steadiness.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = db1(
        "eval", run_folder, "--task", task, "--episodes", 3, "--policy", "random", "--out", "out",
        "--workers", 0, "--data", data_root, "--no-text", "--no-pairs",
    )  # fmt: skip
    results = json.loads((tmp_path / "out/results.json").read_text())
    entry = results["tasks"][task]
    lowest = (min(entry["returns"]) - entry["random"]) / (entry["expert"] - entry["random"])
    assert entry["metrics"] == {"lowest_score": pytest.approx(lowest)}
    assert results["summary"]["metrics"]["lowest_score"]["value"] == pytest.approx(lowest)
    assert f"lowest over 1 task: {100 * lowest:.1f} %" in shown
    assert "lowest" in shown.split("50 % or more")[0], "a column"
    db1("report", "out", "--html", "page.html")
    assert f"{100 * lowest:.1f} %" in (tmp_path / "page.html").read_text()
    assert "lowest" in db1("compare", "out", "out")
