"""Blocks of evaluations: the quickstart's model and the model in the box, beside their controls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .text import percent, table

MODEL = Path(__file__).parents[2] / "models" / "db1_base" / "model.safetensors"
TITLES = {
    "quickstart": "The quickstart's model, trained by `bash scripts/quickstart.sh`",
    "base": "The model in the box, `models/db1_base`",
}


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
    """The card's block: the model in the box by suite with its controls, and its size."""
    header = safetensors_header(MODEL)
    weights = [entry for name, entry in header.items() if name != "__metadata__"]
    count = sum(math.prod(entry["shape"]) for entry in weights)
    types = " and ".join(sorted({entry["dtype"] for entry in weights}))
    size = f"{count:,} weights ({types}), {MODEL.stat().st_size / 1e6:.1f} MB.\n"
    return "\n".join([*_model("base", known["base"]), size])


def safetensors_header(path: Path) -> dict[str, Any]:
    """Types and shapes of a file of weights: JSON after its length in 8 bytes."""
    with open(path, "rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def quickstart(known: Mapping[str, Mapping[str, Any]]) -> str:
    """Headline of docs/benchmarks.md: counts, words and pictures."""
    results = known["quickstart"]
    parts = list(_in_short("quickstart", results))
    if (found := results["controls"].get("retrieval")) is not None:
        parts.append(_against_retrieval(results, found))
    return "\n".join([*parts, *_words(results)])


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
        yield _against_retrieval(results, found)
    yield from _without_largest(results)
    yield from _words(results)


def _against_retrieval(results: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    better = found["compared"]
    ahead, back = _ahead(results["tasks"], found["tasks"])
    tested = (
        f"tested task by task, and corrected for their number, it is better on "
        f"{better['model']} and worse on {better['control']}"
    )
    if not better["model"] + better["control"]:
        tested = "so few episodes cannot tell single tasks apart"
    return (
        f"Against retrieval the model's mean is higher on {ahead} tasks and lower on {back}; "
        f"{tested}.\n"
    )


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
