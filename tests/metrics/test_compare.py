"""Two evaluations side by side: known differences are found, none is made up."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_evaluation import episodes_of

from db1.errors import DataError
from db1.metrics.compare import compare_results
from db1.metrics.seen import summarise_seen
from db1.metrics.significance import holm, paired_p_value, two_sample_p_value
from db1.metrics.summary import summarise

TASKS = [f"tsp/tsp100-{i}" for i in range(6)] + [f"babyai/Level{i}" for i in range(4)]


def results_of(scores: dict[str, Any], first_seed: int = 2_000_000) -> dict[str, Any]:
    """Results whose references are 0 and 10."""
    entries = {
        task: {
            "episodes": len(values),
            "seeds": list(range(first_seed, first_seed + len(values))),
            "lengths": [1] * len(values),
            "normalised": float(np.mean(values)),
            "interval": [0.0, 1.0],
            "returns": [10.0 * float(value) for value in values],
            "random": 0.0,
            "expert": 10.0,
            "reference": {"name": "store"},
        }
        for task, values in scores.items()
    }
    return {"tasks": entries}


def drawn(shift: float = 0.0, episodes: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {task: rng.normal(0.5 + shift, 0.2, episodes) for task in TASKS}


def test_equal_evaluations_do_not_differ() -> None:
    found = compare_results(results_of(drawn()), results_of(drawn()))
    assert found["better"] == {"a": 0, "b": 0, "neither": len(TASKS)}
    assert all(
        row["p_value"] == 1.0 and row["difference"] == 0.0 for row in found["tasks"].values()
    )
    for row in found["overall"]["statistics"].values():
        assert row["difference"] == 0.0 and row["interval"] == [0.0, 0.0]
    assert found["overall"]["p_value"] == 1.0


def test_learned_tasks_beside_the_others() -> None:
    tasks = ["metaworld/reach-v3", "metaworld/bin-picking-v3", "metaworld/push-v3"]
    scores = {task: np.full(4, 0.2 * i) for i, task in enumerate(tasks)}
    a = results_of({task: values + 0.1 for task, values in scores.items()})
    b = results_of(scores) | {"provenance": {"learned": tasks[:1]}}
    found = compare_results(a, b)["by_seen"]
    assert {name: group["num_tasks"] for name, group in found.items()} == {
        "seen": 1, "unseen": 2, "unseen: ml45-test": 1, "unseen: regent-12": 1,
        "unseen: vintix-test": 1,
    }  # fmt: skip
    mean = found["unseen"]["statistics"]["mean_normalised"]
    assert mean["b"] == pytest.approx(0.3) and mean["difference"] == pytest.approx(-0.1)
    summaries = summarise_seen(b)
    assert summaries["seen"]["mean_normalised"] == 0.0
    assert summaries["unseen"]["mean_normalised"] == pytest.approx(0.3)
    assert compare_results(b, a)["by_seen"].keys() == found.keys(), "A says it, too"
    for learned in (tasks, None):
        everything = a | {"provenance": {"learned": learned}}
        assert summarise_seen(everything) == {} == compare_results(a, everything)["by_seen"]


def test_a_shift_of_one_task_is_found_there_alone() -> None:
    a, b = drawn(seed=1), drawn(seed=1)
    b[TASKS[3]] = b[TASKS[3]] + 0.4
    found = compare_results(results_of(a), results_of(b))
    assert found["better"] == {"a": 0, "b": 1, "neither": len(TASKS) - 1}
    row = found["tasks"][TASKS[3]]
    assert row["better"] == "b" and row["difference"] == pytest.approx(0.4)
    assert row["interval"] == pytest.approx([0.4, 0.4])
    mean = found["overall"]["statistics"]["mean_normalised"]
    assert mean["difference"] == pytest.approx(0.4 / len(TASKS))
    assert found["by_suite"]["babyai"]["statistics"]["mean_normalised"]["difference"] == 0.0


def test_other_seeds_are_two_samples() -> None:
    a, b = results_of(drawn(seed=2)), results_of(drawn(0.5, 12, seed=3), 2_500_000)
    found = compare_results(a, b)
    assert all(not row["paired"] for row in found["tasks"].values())
    assert found["better"]["b"] == len(TASKS) and found["overall"]["p_value"] < 0.01


def test_other_references_are_left_out() -> None:
    a, b = results_of(drawn()), results_of(drawn(0.1))
    b["tasks"][TASKS[0]]["expert"] = 20.0
    b["tasks"][TASKS[1]] |= {"reference": None, "random": None, "expert": None}
    del b["tasks"][TASKS[2]]
    found = compare_results(a, b)
    assert set(found["not_comparable"]) == set(TASKS[:2]) and found["only_a"] == [TASKS[2]]
    assert found["overall"]["num_tasks"] == len(TASKS) - 3
    with pytest.raises(DataError, match="no task in common"):
        compare_results(a, {"tasks": {}})


def test_paired_p_values_count_all_swaps() -> None:
    differences = np.array([0.3, 0.1, -0.05, 0.2, 0.25])
    means = [np.mean(np.multiply(s, differences)) for s in itertools.product([1, -1], repeat=5)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert paired_p_value(differences) == expected
    assert paired_p_value(np.full(40, 0.1)) < 1e-3


def test_p_values_of_equal_samples_are_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    values = [two_sample_p_value(*rng.normal(size=(2, 8)), seed=i) for i in range(60)]
    assert 0.3 < np.mean(values) < 0.7


def test_holm_by_hand() -> None:
    assert holm({"x": 0.01, "y": 0.04, "z": 0.03}) == pytest.approx(
        {"x": 0.03, "y": 0.06, "z": 0.06}
    )


def test_the_verb_prints_and_writes(db1_compare, tmp_path: Path) -> None:
    for name, scores in (("a", drawn()), ("b", drawn(0.3))):
        scores["babyai/GoTo"] = np.ones(5)
        content = results_of(scores) | {"provenance": {}, "settings": {}}
        content["summary"] = summarise({task: episodes_of(x) for task, x in scores.items()})
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(content))
    file = tmp_path / "compare.json"
    out = db1_compare(tmp_path / "a", tmp_path / "b", "--published", "--json", file)
    assert "B *" in out and "interquartile mean" in out and "JAT" in out
    content = json.loads(file.read_text())
    assert content["better"]["b"] > 0 and content["published"]["figures"]


@pytest.fixture
def db1_compare():
    from typer.testing import CliRunner

    from db1.cli.main import app

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    return run
