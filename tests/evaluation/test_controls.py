"""Controls beside an evaluation, in results.json, on the terminal and in the report."""

from __future__ import annotations

import io
import logging
from functools import partial
from pathlib import Path

import pytest
from toy_evaluation import TASKS

from db1.cli.console import Console
from db1.cli.scores import print_scores, score_line
from db1.errors import ConfigError
from db1.evaluation.controls import check_controls, evaluate_controls, plan_controls
from db1.evaluation.evaluate import evaluate
from db1.evaluation.results import read_results
from db1.evaluation.settings import EvaluationConfig
from db1.report import write_report

CONFIG = EvaluationConfig(episodes=2, text=False, memory_length=24)
NAMES = ("retrieval", "random", "no-prompt")


@pytest.fixture(scope="module")
def played(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("controls")
    names = plan_controls(run_folder, CONFIG, NAMES)
    told: list[str] = []
    evaluate(run_folder, CONFIG, out=out)
    results = evaluate_controls(
        partial(evaluate, run_folder),
        CONFIG,
        names,
        out,
        on_result=lambda task, *_: told.append(task),
    )
    assert results == read_results(out)
    assert sorted(told) == sorted(f"{task} [{name}]" for task in TASKS for name in NAMES)
    return out


def test_controls_play_the_same_seeds_by_their_own_settings(played: Path) -> None:
    results = read_results(played)
    assert list(results["controls"]) == list(NAMES)
    for name, control in results["controls"].items():
        assert set(control["tasks"]) == set(TASKS)
        for task, entry in control["tasks"].items():
            assert entry["seeds"] == results["tasks"][task]["seeds"]
        settings = read_results(played / "controls" / name)["settings"]
        differing = {k for k, v in settings.items() if v != results["settings"][k]} - {"pairs"}
        assert differing == set(control["settings"])
        assert sum(control["compared"].values()) == len(TASKS)


def test_an_evaluation_that_goes_on_keeps_its_controls(played: Path, run_folder: Path) -> None:
    before = read_results(played)["controls"]
    assert evaluate(run_folder, CONFIG, out=played)["controls"] == before


def test_the_table_has_a_column_for_each(played: Path) -> None:
    results = read_results(played)
    for width in (80, 160):
        out = io.StringIO()
        print_scores(Console(file=out, width=width), results)
        shown = out.getvalue()
        assert max(map(len, shown.splitlines())) <= width
        assert all(name in shown for name in (*NAMES, "50 % or more", "mean", "CartPole-v1"))
        assert ("95 % interval" in shown) == (width == 160)
        assert f"{100 * results['controls']['random']['summary']['mean_normalised']:.1f} %" in shown
        assert "against retrieval: better on" in shown
    entry = results["tasks"][TASKS[0]]
    assert score_line(TASKS[0], entry, None).startswith(
        f"{TASKS[0]}  {100 * entry['normalised']:.1f}"
    )
    assert score_line(TASKS[0], None, "it broke") == f"{TASKS[0]}  failed: it broke"


def test_the_report_has_them(played: Path) -> None:
    text = write_report(played, played / "report.html").read_text()
    (head,) = (line for line in text.splitlines() if line.startswith("| task | score"))
    assert "| retrieval | random | no-prompt | mean return | random return |" in head
    assert "| who acts | tasks at least 50 % |" in text and "| suite | tasks |" in text
    page = (played / "report.html").read_text()
    assert page.count("the action of the nearest demonstrated step") == 1


def test_bad_names_and_senseless_controls(run_folder: Path, caplog) -> None:
    assert check_controls("random, retrieval,random") == ("random", "retrieval")
    with pytest.raises(ConfigError, match="did you mean 'retrieval'"):
        check_controls("retreival")
    with pytest.raises(ConfigError, match="trained model's evaluation, got policy 'expert'"):
        plan_controls(run_folder, EvaluationConfig(policy="expert"), ("random",))
    silent = EvaluationConfig(episodes=1, prompt=False)
    with caplog.at_level(logging.WARNING):
        assert plan_controls(run_folder, silent, ("no-prompt", "random")) == ("random",)
    assert "control no-prompt: the evaluation itself is played that way" in caplog.text
