"""Writes the figures of README.md, docs/benchmarks.md and the model card from results files.

    python scripts/figures.py             rewrites the blocks
    python scripts/figures.py --check     exit status 1 where one is out of date
    python scripts/figures.py --keep quickstart runs/db1_tiny/evaluation
                                          keeps these results, then rewrites the blocks

`--keep` writes what the tables need of a results.json into `docs/results/NAME.json`; the model in
the box has its own, `models/db1_base/results.json`. A block lies between
`<!-- NAME: python scripts/figures.py -->` and `<!-- end -->`; it stays as it is while none of its
results files is there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CARD = ROOT / "models" / "db1_base" / "README.md"
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", CARD)
RESULTS = {
    "quickstart": ROOT / "docs" / "results" / "quickstart.json",
    "base": ROOT / "models" / "db1_base" / "results.json",
}
"""What was measured, by name."""

TITLES = {
    "quickstart": "The quickstart's model, trained by `bash scripts/quickstart.sh`",
    "base": "The model in the box, `models/db1_base`",
}
BLOCK = re.compile(
    r"(?P<head><!-- (?P<name>[a-z_]+): python scripts/figures\.py -->\n).*?(?=<!-- end -->)",
    re.DOTALL,
)


def slim(results: Mapping[str, Any]) -> dict[str, Any]:
    """The part of results.json that the tables need; small enough to be kept beside the pages."""
    return {
        "tasks": {name: _entry(entry) for name, entry in results["tasks"].items()},
        "summary": _summary(results["summary"]),
        "controls": {
            name: {
                "tasks": {task: _entry(e) for task, e in control["tasks"].items()},
                "summary": _summary(control["summary"]),
                "compared": control["compared"],
            }
            for name, control in (results.get("controls") or {}).items()
        },
        "text": _part(results.get("text"), "perplexity", "unigram_perplexity", "ratio"),
        "questions": {
            name: {
                "num_questions": entry["num_questions"],
                **{key: {"accuracy": entry[key]["accuracy"]} for key in ("baseline", "blind")},
                "accuracy": entry["accuracy"],
            }
            for name, entry in (results.get("questions") or {}).items()
        },
        "captions": {
            name: {"scores": entry["scores"], "baseline": {"scores": entry["baseline"]["scores"]}}
            for name, entry in (results.get("captions") or {}).items()
        },
    }


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    mean = entry.get("mean_return")
    if mean is None:
        mean = sum(entry["returns"]) / len(entry["returns"])
    keys = ("random", "expert", "normalised", "interval", "episodes")
    return {"mean_return": mean, **{key: entry[key] for key in keys}}


def _summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("num_tasks", "num_at_least_50", "mean_normalised", "interquartile_mean")
    inner = {name: _summary(group) for name, group in summary.get("by_suite", {}).items()}
    return {key: summary[key] for key in keys} | ({"by_suite": inner} if inner else {})


def _part(found: Mapping[str, Any] | None, *keys: str) -> dict[str, Any] | None:
    return None if not found else {key: found[key] for key in keys}


def headlines(known: Mapping[str, Mapping[str, Any]]) -> str:
    """README's block: the quickstart by suite with its controls, the model in the box in short."""
    makers = {name: _in_short if name == "base" else _model for name in known}
    return "\n".join(part for name in known for part in makers[name](name, known[name]))


def by_suite(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The card's block: the model in the box by suite with its controls."""
    return "\n".join(_model("base", known["base"]))


def _in_short(name: str, results: Mapping[str, Any]) -> Iterator[str]:
    summary, controls = results["summary"], results["controls"]
    others = "; ".join(
        f"{control} {found['summary']['num_at_least_50']}, "
        f"{percent(found['summary']['mean_normalised'])}"
        for control, found in controls.items()
    )
    yield (
        f"{TITLES[name]}: {summary['num_at_least_50']} of {summary['num_tasks']} tasks at or above "
        f"50 % of expert, mean {percent(summary['mean_normalised'])} ({others}).\n"
    )
    yield from _without_largest(results)


def _model(name: str, results: Mapping[str, Any]) -> Iterator[str]:
    summary, controls = results["summary"], results["controls"]
    yield (
        f"{TITLES[name]}: {summary['num_at_least_50']} of {summary['num_tasks']} tasks at or above "
        f"50 % of expert.\n"
    )
    head = ["mean score", "tasks", "model", *controls]
    rows = [_suite_row(suite, results) for suite in sorted(summary["by_suite"])]
    rows.append(_row("**all**", summary, [c["summary"] for c in controls.values()]))
    counts = [summary, *(c["summary"] for c in controls.values())]
    at_least = (f"{s['num_at_least_50']} of {s['num_tasks']}" for s in counts)
    rows.append(["50 % or more", "", *at_least])
    yield table(head, rows)
    if (found := controls.get("retrieval")) is not None:  # the table says enough of the others
        better = found["compared"]
        ahead, back = _ahead(results["tasks"], found["tasks"])
        tested = (
            f"tested task by task, and corrected for their number, it is better on "
            f"{better['model']} and worse on {better['control']}"
        )
        if not better["model"] + better["control"]:
            tested = "so few episodes cannot tell single tasks apart"
        yield (
            f"Against retrieval the model's mean is higher on {ahead} tasks and lower on {back}; "
            f"{tested}.\n"
        )
    yield from _without_largest(results)
    yield from _words(results)


def _without_largest(results: Mapping[str, Any]) -> Iterator[str]:
    """Counts of the other tasks where one suite has a third or more of at least 100."""
    summary, controls = results["summary"], results["controls"]
    suites = summary["by_suite"]
    largest = max(suites, key=lambda suite: suites[suite]["num_tasks"])
    rest = summary["num_tasks"] - suites[largest]["num_tasks"]
    if summary["num_tasks"] < 100 or suites[largest]["num_tasks"] < summary["num_tasks"] / 3:
        return

    def count(found: Mapping[str, Any]) -> int:
        return found["num_at_least_50"] - found["by_suite"][largest]["num_at_least_50"]

    others = ", ".join(f"{name} {count(found['summary'])}" for name, found in controls.items())
    size = suites[largest]["num_tasks"]
    yield (
        f"Without {largest}, which has {size} of the tasks: {count(summary)} of {rest} at or above "
        f"50 % of expert ({others}).\n"
    )


def _ahead(own: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[int, int]:
    """Number of tasks on which the model's mean score is higher, and lower."""
    pairs = [(own[t]["normalised"], others[t]["normalised"]) for t in own if t in others]
    known = [(mine, theirs) for mine, theirs in pairs if None not in (mine, theirs)]
    return sum(a > b for a, b in known), sum(a < b for a, b in known)


def _suite_row(suite: str, results: Mapping[str, Any]) -> list[str]:
    others = [c["summary"]["by_suite"].get(suite) for c in results["controls"].values()]
    return _row(suite, results["summary"]["by_suite"][suite], others)


def _row(name: str, own: Mapping[str, Any], others: list[Any]) -> list[str]:
    cells = [percent(None if s is None else s["mean_normalised"]) for s in (own, *others)]
    return [name, str(own["num_tasks"]), *cells]


def _words(results: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    if text := results["text"]:
        rows.append(
            [
                "held-out text, perplexity",
                f"{text['perplexity']:.1f}",
                f"{text['unigram_perplexity']:.1f} (unigram model)",
            ]
        )
    for name, entry in results["questions"].items():
        rows.append(
            [
                f"{name}, right answers",
                f"{entry['accuracy']:.1f} %",
                f"{entry['blind']['accuracy']:.1f} % (blind), "
                f"{entry['baseline']['accuracy']:.1f} % (most frequent of the type)",
            ]
        )
    for name, entry in results["captions"].items():
        usual = entry["baseline"]["scores"].get("CIDEr-D", 0.0)
        score = f"{entry['scores'].get('CIDEr-D', 0.0):.2f}"
        rows.append([f"{name}, CIDEr-D", score, f"{usual:.2f} (most frequent caption)"])
    if rows:
        yield table(["words and pictures", "model", "knowing nothing"], rows)


def tasks(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The block of docs/benchmarks.md: the quickstart's tasks one by one."""
    results = known["quickstart"]
    controls = results["controls"]
    rows = []
    for task, entry in results["tasks"].items():
        low, high = entry["interval"] or (None, None)
        others = (c["tasks"].get(task, {}).get("normalised") for c in controls.values())
        rows.append(
            [
                task,
                *(f"{entry[key]:.4g}" for key in ("random", "expert", "mean_return")),
                f"{percent(entry['normalised'])} ({percent(low)} to {percent(high)})",
                *map(percent, others),
            ]
        )
    return table(["task", "random", "expert", "db1", "score", *controls], rows)


def percent(value: float | None) -> str:
    """0.5 -> `50.0 %`; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown: names on the left, numbers right-aligned."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows]) + "\n"


BLOCKS: Mapping[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], str]]] = {
    "results": (frozenset(), headlines),
    "quickstart_tasks": (frozenset({"quickstart"}), tasks),
    "base": (frozenset({"base"}), by_suite),
}
"""By name: the results that a block needs (any will do where it names none), and its maker."""


def measured() -> dict[str, dict[str, Any]]:
    """The results that are there, by name."""
    return {
        name: slim(json.loads(path.read_text(encoding="utf-8")))
        for name, path in RESULTS.items()
        if path.is_file()
    }


def renewed(text: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """A page with the blocks whose results are there made anew."""

    def make(block: re.Match[str]) -> str:
        needed, maker = BLOCKS[block["name"]]
        if not known or not needed <= known.keys():
            return block[0]
        return block["head"] + maker(known)

    return BLOCK.sub(make, text)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "EVALUATION"), help="keep results")
    arguments = parser.parse_args()
    if arguments.keep:
        name, folder = arguments.keep
        path = RESULTS[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        path.write_text(json.dumps(slim(results), indent=1) + "\n", encoding="utf-8")
    known = measured()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = renewed(text, known)
        if arguments.check and new != text:
            sys.exit(f"{page}: run python scripts/figures.py")
        page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
