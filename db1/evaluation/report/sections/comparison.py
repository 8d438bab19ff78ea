"""Two evaluations beside each other, on the tasks that both have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.evaluation.report.blocks import Bar, Block, Cell, Column, Prose, Section, Table
from db1.evaluation.report.material import Material
from db1.evaluation.report.sections.tasks import level
from db1.evaluation.report.wording import count, interval, percent
from db1.evaluation.scores import normalise, percentile_interval, resampled_means

_COLUMNS = ("share of tasks at least 50 %", "mean", "median", "interquartile mean")


def comparison(material: Material) -> Section | None:
    """Every other evaluation against this one; nothing without another one."""
    if not material.others:
        return None
    blocks: list[Block] = [_side_by_side((material, *material.others))]
    for number, other in enumerate(material.others):
        blocks += _against(material, other, number)
    return Section(name="comparison", title="Comparison", blocks=tuple(blocks))


def _side_by_side(all_of_them: tuple[Material, ...]) -> Table:
    keys = ("share_at_least_50", "mean_normalised", "median_normalised", "interquartile_mean")
    rows = []
    for each in all_of_them:
        summary = each.results["summary"]
        cells = [Cell(text=percent(summary[key]), key=summary[key]) for key in keys]
        rows.append((Cell(text=_name(each)), Cell(text=str(summary["num_tasks"])), *cells))
    return Table(
        name="evaluations",
        caption="Each evaluation over all of its own tasks",
        columns=(
            Column(title="evaluation", is_text=True, is_main=True),
            Column(title="tasks"),
            *(Column(title=title) for title in _COLUMNS),
        ),
        rows=tuple(rows),
    )


def _against(material: Material, other: Material, number: int) -> list[Block]:
    mine, theirs = material.results["tasks"], other.results["tasks"]
    common = [
        task
        for task in sorted(mine)
        if task in theirs and _has_score(mine[task]) and _has_score(theirs[task])
    ]
    if not common:
        return [Prose(text=f"No task with a score in common with {_name(other)}.", is_warning=True)]
    differences = {task: _difference(mine[task], theirs[task]) for task in common}
    blocks: list[Block] = [Prose(text=_told(material, other, differences))]
    foreign = [task for task in common if not _same_references(mine[task], theirs[task])]
    if foreign:
        blocks.append(
            Prose(
                text=f"{count(len(foreign), 'task')} scored by other references in the two: "
                f"{', '.join(foreign)}",
                is_warning=True,
            )
        )
    rows = tuple(_row(task, mine[task], theirs[task], differences[task]) for task in common)
    return [
        *blocks,
        Table(
            name=f"against-{number}",
            caption=f"{_name(material)} (first) and {_name(other)} (second), task by task",
            columns=(
                Column(title="task", is_text=True, is_main=True),
                Column(title="first"),
                Column(title="second"),
                Column(title="difference", is_main=True),
                Column(title="95 % interval"),
            ),
            rows=rows,
            groups=tuple(task.split("/")[0] for task in common),
            levels=tuple(level(mine[task]["normalised"]) for task in common),
            is_searchable=True,
        ),
    ]


def _told(
    material: Material, other: Material, differences: Mapping[str, tuple[float, np.ndarray]]
) -> str:
    """The mean difference, and how many tasks clearly differ."""
    means = np.array([mean for mean, _ in differences.values()])
    draws = np.stack([draws for _, draws in differences.values()])
    ends = [percentile_interval(row) for row in draws]
    better = sum(low > 0 for low, _ in ends)
    worse = sum(high < 0 for _, high in ends)
    mean, spread = float(means.mean()), interval(percentile_interval(draws.mean(axis=0)))
    return (
        f"On {count(len(means), 'task')} in common the mean score of {_name(material)} is that of "
        f"{_name(other)} {100 * mean:+.1f} % (95 %: {spread}). It is clearly better on {better}, "
        f"clearly worse on {worse} and within chance on {len(means) - better - worse}."
    )


def _difference(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    """Difference of the mean scores, and of means of episodes drawn again, float64 (2,000,)."""
    scores = [
        normalise(np.array(entry["returns"]), entry["random"], entry["expert"])
        for entry in (mine, theirs)
    ]
    draws = [
        resampled_means(values, np.random.default_rng(seed)) for seed, values in enumerate(scores)
    ]
    return float(scores[0].mean() - scores[1].mean()), draws[0] - draws[1]


def _row(
    task: str,
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    difference: tuple[float, np.ndarray],
) -> tuple[Cell, ...]:
    mean, draws = difference
    low, high = percentile_interval(draws)
    return (
        Cell(text=task, key=task),
        _score_cell(mine),
        _score_cell(theirs),
        Cell(text=f"{100 * mean:+.1f} %", key=mean),
        Cell(text=interval((low, high)), key=low),
    )


def _score_cell(entry: Mapping[str, Any]) -> Cell:
    low, high = entry["interval"]
    score = entry["normalised"]
    return Cell(text=percent(score), key=score, bar=Bar(value=score, low=low, high=high))


def _has_score(entry: Mapping[str, Any]) -> bool:
    return entry["normalised"] is not None


def _same_references(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(mine[key] == theirs[key] for key in ("random", "expert"))


def _name(material: Material) -> str:
    return f"{material.name} ({material.folder.name})"
