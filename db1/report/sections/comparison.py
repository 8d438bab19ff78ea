"""Evaluations beside each other on the tasks that both have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db1.errors import DataError
from db1.metrics.compare import LEVEL, compare_results
from db1.report.blocks import Bar, Block, Cell, Column, Prose, Section, Table
from db1.report.material import Material
from db1.report.sections.tasks import level
from db1.report.wording import (
    count,
    figure,
    figure_interval,
    interval,
    number,
    percent,
    signed,
)

_BETTER = {"b": "first", "a": "second", None: "-"}


def comparison(material: Material) -> Section | None:
    """This evaluation (first) against every other one (second); nothing without another one."""
    if not material.others:
        return None
    blocks: list[Block] = []
    for place, other in enumerate(material.others):
        blocks += _against(material, other, place)
    return Section(name="comparison", title="Comparison", blocks=tuple(blocks))


def _against(material: Material, other: Material, place: int) -> list[Block]:
    try:
        compared = compare_results(other.results, material.results)
    except DataError as error:
        text = f"{_name(material)} and {_name(other)}: {error}"
        return [Prose(text=text, is_warning=True)]
    blocks: list[Block] = [
        Prose(text=_told(material, other, compared)),
        _statistics(compared["overall"], f"overall-{place}", "Over the tasks in common"),
    ]
    for row, (name, group) in enumerate(compared["by_seen"].items()):
        caption = f"Over the {count(group['num_tasks'], 'task')} in common that are {name}"
        blocks.append(_statistics(group, f"seen-{place}-{row}", caption))
    if compared["not_comparable"]:
        left_out = "; ".join(compared["not_comparable"].values())
        blocks.append(Prose(text=f"Left out: {left_out}.", is_warning=True))
    return [*blocks, _task_table(material, other, compared, place)]


def _told(material: Material, other: Material, compared: Mapping[str, Any]) -> str:
    overall, better = compared["overall"], compared["better"]
    mean = overall["statistics"]["mean_normalised"]
    in_common = count(overall["num_tasks"], "task")
    return (
        f"First: {_name(material)}. Second: {_name(other)}. On {in_common} in common the mean "
        f"score of the first differs by {signed(mean['difference'])} "
        f"(p = {number(overall['p_value'])}, swapping whole tasks). Task by task the first is "
        f"better on {better['b']}, the second on {better['a']}, and {better['neither']} are "
        f"undecided (permutation tests corrected for the number of tasks, {100 * LEVEL:g} %)."
    )


def _statistics(overall: Mapping[str, Any], name: str, caption: str) -> Table:
    rows = tuple(
        (
            Cell(text=entry["title"]),
            Cell(text=figure(entry["b"], entry["is_share"])),
            Cell(text=figure(entry["a"], entry["is_share"])),
            Cell(text=signed(entry["difference"], entry["is_share"])),
            Cell(text=figure_interval(entry["interval"], entry["is_share"])),
        )
        for entry in overall["statistics"].values()
    )
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column(title="figure", is_text=True, is_main=True),
            Column(title="first"),
            Column(title="second"),
            Column(title="difference", is_main=True),
            Column(title="95 % interval"),
        ),
        rows=rows,
    )


def _task_table(
    material: Material, other: Material, compared: Mapping[str, Any], place: int
) -> Table:
    mine, theirs = material.results["tasks"], other.results["tasks"]
    tasks = compared["tasks"]
    return Table(
        name=f"against-{place}",
        caption="Task by task; p is corrected for the number of tasks",
        columns=(
            Column(title="task", is_text=True, is_main=True),
            Column(title="first"),
            Column(title="second"),
            Column(title="difference", is_main=True),
            Column(title="95 % interval"),
            Column(title="p"),
            Column(title="better", is_text=True),
        ),
        rows=tuple(_row(task, mine[task], theirs[task], entry) for task, entry in tasks.items()),
        groups=tuple(task.split("/")[0] for task in tasks),
        levels=tuple(level(mine[task]["normalised"]) for task in tasks),
        is_searchable=True,
    )


def _row(
    task: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], entry: Mapping[str, Any]
) -> tuple[Cell, ...]:
    better = _BETTER[entry["better"]]
    return (
        Cell(text=task, key=task),
        _score_cell(mine),
        _score_cell(theirs),
        Cell(text=signed(entry["difference"]), key=entry["difference"]),
        Cell(text=interval(entry["interval"]), key=entry["interval"][0]),
        Cell(text=f"{entry['p_corrected']:.2g}", key=entry["p_corrected"]),
        Cell(text=better, key=better),
    )


def _score_cell(entry: Mapping[str, Any]) -> Cell:
    low, high = entry["interval"]
    score = entry["normalised"]
    return Cell(text=percent(score), key=score, bar=Bar(value=score, low=low, high=high))


def _name(material: Material) -> str:
    return f"{material.name} ({material.folder.name})"
