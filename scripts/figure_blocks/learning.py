"""Blocks of what was learned: ablations at equal time, and curves on held-out tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .text import measured_by, percent, table

Known = Mapping[str, Mapping[str, Any]]


def ablations(known: Known) -> str:
    """Arms of each ablation in one table, then their tasks one by one."""
    return "\n".join(part for found in known.values() for part in _ablation(found))


def _ablation(found: Mapping[str, Any]) -> list[str]:
    arms = found["arms"]
    rows = [
        [
            arm,
            _span(sorted(each["tokens_a_step"].values())),
            f"{each['steps']:,}",
            f"{each['environment_steps']:,}",
            percent(each["mean"]),
            f"{each['at_least_50']} of {len(each['scores'])}",
        ]
        for arm, each in arms.items()
    ]
    head = [
        f"{found['minutes']:g} minutes each",
        "tokens a step",
        "optimizer steps",
        "environment steps seen",
        "mean score",
        "50 % or more",
    ]
    tasks = next(iter(arms.values()))["scores"]
    scores = [[task, *(percent(each["scores"][task]) for each in arms.values())] for task in tasks]
    return [table(head, rows), table(["score", *arms], scores), measured_by(found)]


def _span(values: list[int]) -> str:
    return f"{values[0]}" if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def held_out(known: Known) -> str:
    """Means over a suite's unseen tasks, by demonstrations."""
    found = known["held_out"]
    parts = []
    for suite, lines in found["curves"].items():
        counts = sorted({row["demonstrations"] for rows in lines.values() for row in rows})
        rows = []
        for who, curve in lines.items():
            by_count = {row["demonstrations"]: row for row in curve}
            rows.append([who, *(_with_interval(by_count.get(count)) for count in counts)])
        parts.append(table([f"{suite}, demonstrations", *map(str, counts)], rows))
    return "\n".join([*parts, measured_by(found)])


def _with_interval(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["interval"] is None:
        return percent(row["mean"])
    low, high = row["interval"]
    return f"{percent(row['mean'])} ({percent(low)} to {percent(high)})"
