"""Figures of README and docs are those of the results files."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from db1.suites.listing import count_rows, task_rows
from db1.training.experiment import load_experiment

SCRIPT = Path(__file__).parents[1] / "scripts" / "figures.py"


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
    kept = json.loads(figures.EVALUATIONS["quickstart"].read_text())
    experiment = load_experiment(figures.ROOT / "configs" / "db1_tiny.yaml")
    assert kept["tasks"].keys() == dict(experiment.data.named_tasks()).keys()


def test_counts_of_tasks_are_those_of_the_listing(figures) -> None:
    total = count_rows(task_rows())["total"]
    readme = (figures.ROOT / "README.md").read_text()
    assert f"experts for {total['expert']} tasks" in readme
    assert f"{total['listed']:,} listed, {total['expert']} with an expert" in readme


def test_a_block_has_the_model_beside_its_controls(figures) -> None:
    known = {"quickstart": figures.evaluations.slim(_results())}
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
    short = figures.evaluations.headlines({"base": figures.evaluations.slim(many)})
    assert "105 of 120 tasks at or above 50 % of expert, mean 75.0 % (retrieval 10, " in short
    assert "Without maps" in short and "| mean score |" not in short
    text = figures.evaluations.by_suite({"base": figures.evaluations.slim(many)})
    assert "Without maps, which has 90 of the tasks: 20 of 30 at or above 50 %" in text
    assert "(retrieval 5)" in text and "so few episodes cannot tell single tasks apart" in text


def test_a_block_without_results_says_so(figures) -> None:
    page = "<!-- quickstart_tasks: python scripts/figures.py -->\nold\n<!-- end -->"
    assert "Not measured yet: there is no docs/results/quickstart.json.\n" in figures.renewed(
        page, {}
    )
    new = figures.renewed(page, {"quickstart": figures.evaluations.slim(_results())})
    assert "| toy/a | 0 | 2 | 1.5 | 75.0 % (50.0 % to 100.0 %) | 25.0 % |" in new


def test_what_is_kept_is_small_and_gives_the_same(figures) -> None:
    kept = figures.evaluations.slim(_results())
    assert "returns" not in json.dumps(kept) and figures.evaluations.slim(kept) == kept


AWAITED: frozenset[str] = frozenset(
    {
        "ablation_instructions",
        "ablation_patches",
        "faults",
        "freed_memory",
        "fuzz",
        "held_out",
        "stranger",
    }
)
"""Results that were not measured yet: until then their blocks say so."""


def _blocks(figures) -> dict[str, str]:
    """Text by name of every block on a page."""
    pages = "".join(page.read_text() for page in figures.PAGES)
    return {match["name"]: match[0] for match in figures.BLOCK.finditer(pages)}


def test_every_file_has_a_block_and_every_block_its_files(figures) -> None:
    blocks, files = _blocks(figures), set(figures.measured())
    assert blocks.keys() == figures.BLOCKS.keys()
    shown = {name for block in figures.BLOCKS.values() for name in block.needs + block.takes}
    assert files <= shown, f"docs/results has what no page shows: {files - shown}"
    needed = {name for block in figures.BLOCKS.values() for name in block.needs}
    assert needed - files == AWAITED, "measured ones are not awaited any more"
    silent = {name for name, text in blocks.items() if "Not measured yet" in text}
    assert silent == {n for n in blocks if {*figures.BLOCKS[n].needs} & AWAITED}


def test_every_measurement_is_one_of_the_script(figures) -> None:
    script = (figures.ROOT / "scripts" / "benchmarks.sh").read_text()
    names = set(re.findall(r"\bmeasure ([a-z0-9_]+) ", script))
    names |= {f"decode_{threads}" for threads in (1, 2)}
    names |= {f"parameters_{size}" for size in ("79m", "364m", "1.2b")}
    shown = {n for block in figures.MEASURED.values() for n in block.needs + block.takes}
    assert names == shown


MEASURED_FIGURE = re.compile(
    r"(?<![\w.=-])\d[\d,.]*(?: (?:to|and) \d[\d,.]*)? ?"
    r"(?:%|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|[kMG]i?B\b|G?FLOP|times\b|x\b(?! ?\d)"
    r"|(?:tokens|steps|samples|acts|texts) ?(?:/ ?s|a second))"
)
"""A number with a unit of time, speed or memory, a percentage, or a ratio."""

NO_MEASUREMENT = {
    "docs/benchmarks.md": ("cover 95 %",),
    "README.md": ("0 % for random actions and 100 % for the expert",),
    "models/db1_base/README.md": ("(0 %: random,\n100 %: expert)",),
}
"""By page: definitions, and settings of a training."""


@pytest.mark.parametrize("name", NO_MEASUREMENT)
def test_no_figure_stands_outside_of_a_block(figures, name: str) -> None:
    text = (figures.ROOT / name).read_text()
    text = re.sub(r"<!-- [a-z0-9_]+: python.*?<!-- end -->", "", text, flags=re.DOTALL)
    for words in NO_MEASUREMENT[name]:
        assert words in text
        text = text.replace(words, "")
    assert MEASURED_FIGURE.findall(text) == []


def test_a_figure_is_found() -> None:
    figures = "took 13 s; 4.1 to 5 ms; 1,200 tokens/s; 0.4 MB; 50 %; 3.5 times; 2.04 x; 25 minutes"
    assert len(MEASURED_FIGURE.findall(figures)) == figures.count(";") + 1
    assert not MEASURED_FIGURE.findall("3 layers, 2 x 1,024 tokens, bf16, 42 tasks, 8 suites")


def _places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys; of a list its first entry tells."""
    if isinstance(found, dict):
        for key in found:
            yield (*path, key)
            yield from _places(found[key], (*path, key))
    elif isinstance(found, list) and found:
        yield from _places(found[0], (*path, 0))


def _without(found: Any, path: Sequence[Any]) -> Any:
    changed = copy.deepcopy(found)
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


def _kept() -> list[str]:
    return sorted(path.stem for path in (SCRIPT.parents[1] / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("name", [name for name in _kept() if name != "quickstart"])
def test_results_without_a_key_end_in_one_clear_line(figures, name: str) -> None:
    """Whatever is missing: the block is the same without it, or the error says what lacks."""
    known = figures.measured()
    blocks = [b for b, each in figures.MEASURED.items() if name in each.needs + each.takes]
    others = {each: known[name] for block in blocks for each in figures.MEASURED[block].needs}
    known = others | known  # awaited ones, too
    refused = set()
    for block, path in itertools.product(blocks, list(_places(known[name]))):
        try:
            figures.made(block, {**known, name: _without(known[name], path)})
        except figures.FigureError as error:
            refused.add(path)
            assert name in str(error) and "measure again" in str(error) and "\n" not in str(error)
    needed = {(key,) for key in known[name]} | {("machine", "date"), ("machine", "load")}
    assert refused >= needed, f"no block misses {needed - refused}"


def test_an_unknown_block_is_refused(figures) -> None:
    page = "<!-- speed_of_light: python scripts/figures.py -->\n<!-- end -->"
    with pytest.raises(figures.FigureError, match="speed_of_light: not known, expected one of"):
        figures.renewed(page, {})
