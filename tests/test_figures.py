"""Figures of README and docs are those of the results files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from db1.suites.listing import count_rows, task_rows
from db1.training.experiment import load_experiment

SCRIPT = Path(__file__).parents[1] / "scripts" / "figures.py"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _results(score: float = 0.75) -> dict[str, Any]:
    entry = {
        "episodes": 2, "returns": [1.0, 2.0], "random": 0.0, "expert": 2.0,
        "normalised": score, "interval": [0.5, 1.0], "seeds": [1, 2],
    }  # fmt: skip
    group = {
        "num_tasks": 1, "num_at_least_50": 1, "mean_normalised": score, "interquartile_mean": score,
    }  # fmt: skip
    summary = group | {"by_suite": {"toy": group}, "intervals": {}}
    accuracy = {"accuracy": 60.0}
    return {
        "tasks": {"toy/a": entry},
        "summary": summary,
        "controls": {
            "retrieval": {
                "tasks": {"toy/a": entry | {"normalised": 0.25}},
                "summary": summary | {"num_at_least_50": 0, "mean_normalised": 0.25},
                "compared": {"model": 1, "control": 0, "neither": 0},
            }
        },
        "text": {"perplexity": 50.0, "unigram_perplexity": 400.0, "ratio": 0.125, "corpora": {}},
        "questions": {
            "shapes": {"num_questions": 9, **accuracy, "baseline": accuracy, "blind": accuracy}
        },
        "captions": None,
    }


def test_pages_are_up_to_date(figures) -> None:
    known = figures.measured()
    for page in figures.PAGES:
        text = page.read_text()
        assert figures.BLOCK.search(text), page
        assert figures.renewed(text, known) == text, f"{page}: run python scripts/figures.py"


def test_the_kept_quickstart_is_that_of_its_experiment(figures) -> None:
    kept = json.loads(figures.RESULTS["quickstart"].read_text())
    experiment = load_experiment(figures.ROOT / "configs" / "db1_tiny.yaml")
    assert kept["tasks"].keys() == dict(experiment.data.named_tasks()).keys()


def test_counts_of_tasks_are_those_of_the_listing(figures) -> None:
    total = count_rows(task_rows())["total"]
    readme = (figures.ROOT / "README.md").read_text()
    assert f"experts for {total['expert']} tasks" in readme
    assert f"{total['listed']:,} listed, {total['expert']} with an expert" in readme


def test_a_block_has_the_model_beside_its_controls(figures) -> None:
    known = {"quickstart": figures.slim(_results())}
    page = "<!-- results: python scripts/figures.py -->\nold\n<!-- end -->\nrest"
    text = figures.renewed(page, known)
    assert "old" not in text and text.endswith("<!-- end -->\nrest")
    assert "1 of 1 tasks at or above 50 % of expert" in text
    assert "| mean score | tasks | model | retrieval |" in text
    assert "| toy | 1 | 75.0 % | 75.0 % |" in text and "| **all** | 1 | 75.0 % | 25.0 % |" in text
    assert "| 50 % or more |  | 1 of 1 | 0 of 1 |" in text
    assert "Against retrieval the model's mean is higher on 1 tasks and lower on 0; tested" in text
    assert "it is better on 1 and worse on 0" in text and "Without" not in text
    assert "| held-out text, perplexity | 50.0 | 400.0 (unigram model) |" in text
    assert "60.0 % (blind)" in text
    assert figures.renewed(text, known) == text


def test_the_count_without_the_largest_suite(figures) -> None:
    many = _results()
    group = many["summary"]["by_suite"]["toy"]
    suites = {
        "toy": group | {"num_tasks": 30, "num_at_least_50": 20},
        "maps": group | {"num_tasks": 90, "num_at_least_50": 85},
    }
    many["summary"] |= {"num_tasks": 120, "num_at_least_50": 105, "by_suite": suites}
    control = many["controls"]["retrieval"]
    few = {name: found | {"num_at_least_50": 5} for name, found in suites.items()}
    control["summary"] = many["summary"] | {"num_at_least_50": 10, "by_suite": few}
    control["compared"] = {"model": 0, "control": 0, "neither": 1}
    short = figures.headlines({"base": figures.slim(many)})
    assert "105 of 120 tasks at or above 50 % of expert, mean 75.0 % (retrieval 10, " in short
    assert "Without maps" in short and "| mean score |" not in short
    text = figures.by_suite({"base": figures.slim(many)})
    assert "Without maps, which has 90 of the tasks: 20 of 30 at or above 50 %" in text
    assert "(retrieval 5)" in text and "so few episodes cannot tell single tasks apart" in text


def test_a_block_without_results_stays(figures) -> None:
    page = "<!-- quickstart_tasks: python scripts/figures.py -->\nold\n<!-- end -->"
    assert figures.renewed(page, {}) == page
    new = figures.renewed(page, {"quickstart": figures.slim(_results())})
    assert "| toy/a | 0 | 2 | 1.5 | 75.0 % (50.0 % to 100.0 %) | 25.0 % |" in new


def test_what_is_kept_is_small_and_gives_the_same(figures) -> None:
    kept = figures.slim(_results())
    assert "returns" not in json.dumps(kept) and figures.slim(kept) == kept
