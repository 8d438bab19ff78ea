"""Published figures of other agents over many tasks, and their results task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from db1.metrics.compare_agents import FEWEST_EPISODES, compare_agents, compare_published
from db1.report.blocks import Block, Cell, Column, Prose, Section, Table
from db1.report.material import Material
from db1.report.wording import count, interval, percent, signed


def published(material: Material) -> Section | None:
    """Published figures and results of other agents, on the tasks in common."""
    figures = compare_published(material.results)
    agents = compare_agents(material.results)
    if not figures and not agents:
        return None
    blocks = _figures(figures)
    for place, agent in enumerate(agents):
        blocks += _agent(agent, place)
    return Section(
        name="published", title="Published figures", blocks=tuple(blocks), is_folded=True
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    table = Table(
        name="published",
        caption="Published figures, and those of this evaluation on the same tasks",
        columns=(
            Column(title="agent", is_text=True, is_main=True),
            Column(title="of", is_text=True),
            Column(title="figure", is_text=True),
            Column(title="theirs"),
            Column(title="here", is_main=True),
            Column(title="95 % interval"),
            Column(title="tasks"),
        ),
        rows=tuple(_figure_row(row) for row in rows if row["ours"] is not None),
    )
    told = (
        Prose(
            text=f"{row['agent']}, {row['what']}: not compared, {row['num_tasks']} of its "
            f"{row['their_num_tasks']} tasks are here under rules that agree. {row['source']}"
        )
        for row in rows
        if row["ours"] is None
    )
    return [*((table,) if table.rows else ()), *told]


def _figure_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(text=row["agent"]),
        Cell(text=row["what"]),
        Cell(text=row["title"]),
        Cell(text=percent(row["theirs"]), key=row["theirs"]),
        Cell(text=percent(row["ours"]), key=row["ours"]),
        Cell(text=interval(row["our_interval"])),
        Cell(text=str(row["num_tasks"])),
    )


def _agent(found: Mapping[str, Any], place: int) -> list[Block]:
    """An agent's results task by task, and what is not compared."""
    name = found["agent"]
    blocks: list[Block] = []
    if found["tasks"]:
        blocks.append(Prose(text=_told(found)))
        groups = {"that both have": found["overall"]}
        groups |= {f"that both have, {which}": group for which, group in found["by_group"].items()}
        for row, (which, group) in enumerate(groups.items()):
            caption = f"{name}: over the {count(group['num_tasks'], 'task')} {which}"
            blocks.append(_statistics(group, f"agent-{place}-{row}", caption, name))
        blocks.append(_task_table(found, place))
    left_out = [
        f"{count(len(tasks), 'task')}: {reason}"
        for reason, tasks in found["not_comparable"].items()
    ]
    if left_out:
        blocks.append(Prose(text=f"{name}, not compared: {'; '.join(left_out)}."))
    source = f"{name}: {found['source']} ({found['license']}). Rules: {found['rules_source']}."
    return [*blocks, Prose(text=source)]


def _told(found: Mapping[str, Any]) -> str:
    better, name = found["better"], found["agent"]
    few = found["few_episodes"]
    told = (
        f"{name} ({found['kind']}): better here on {better['ours']}, there on {better['theirs']} "
        f"tasks, and {better['neither']} are undecided (95 % intervals, not corrected for the "
        "number of tasks)."
    )
    if few:
        told += f" {count(few, 'task')} with fewer than {FEWEST_EPISODES} episodes here: undecided."
    return told


def _statistics(group: Mapping[str, Any], name: str, caption: str, agent: str) -> Table:
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column(title="figure", is_text=True, is_main=True),
            Column(title=agent),
            Column(title="here"),
            Column(title="difference", is_main=True),
            Column(title="95 % interval"),
        ),
        rows=tuple(
            (
                Cell(text=entry["title"]),
                Cell(text=percent(entry["theirs"])),
                Cell(text=percent(entry["ours"])),
                Cell(text=signed(entry["difference"])),
                Cell(text=interval(entry["interval"])),
            )
            for entry in group["statistics"].values()
        ),
    )


def _task_table(found: Mapping[str, Any], place: int) -> Table:
    better = {"ours": "here", "theirs": found["agent"], None: "-"}
    tasks = found["tasks"]
    return Table(
        name=f"agent-{place}",
        caption=f"{found['agent']} and this evaluation task by task, scored by its references",
        columns=(
            Column(title="task", is_text=True, is_main=True),
            Column(title=found["agent"]),
            Column(title="here"),
            Column(title="difference", is_main=True),
            Column(title="95 % interval"),
            Column(title="better", is_text=True),
        ),
        rows=tuple(_task_row(task, row, better[row["better"]]) for task, row in tasks.items()),
        groups=tuple(task.split("/")[0] for task in tasks),
        is_searchable=True,
    )


def _task_row(task: str, row: Mapping[str, Any], better: str) -> tuple[Cell, ...]:
    return (
        Cell(text=task, key=task),
        Cell(text=percent(row["theirs"]), key=row["theirs"]),
        Cell(text=percent(row["ours"]), key=row["ours"]),
        Cell(text=signed(row["difference"]), key=row["difference"]),
        Cell(text=interval(row["interval"]), key=row["interval"][0]),
        Cell(text=better, key=better),
    )
