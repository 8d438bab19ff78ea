"""The verb `db1 compare`: two evaluations, two trainings, or published figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from db1.cli.console import Console
from db1.cli.layout import fit_names, name_width, narrow_table
from db1.cli.outputs import JsonFile
from db1.errors import ConfigError
from db1.files import atomic_write_text
from db1.metrics_log import METRICS_FILE


def compare(
    first: Annotated[Path, typer.Argument(help="Folder with results.json, or a run folder: A.")],
    second: Annotated[Path | None, typer.Argument(help="Another such folder: B.")] = None,
    published: Annotated[
        bool,
        typer.Option("--published", help="Compare with what other agents' authors published."),
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Two evaluations or two trainings side by side: which is better, and how sure that is.

    Differences of evaluations are B - A in normalised return, with 95 % bootstrap intervals and
    p-values of permutation tests; episodes of equal seeds are pairs, and the p-values of tasks are
    corrected for their number (Holm). A * marks differences at the 5 % level.

    Of two run folders the losses at their last step in common, speeds, and the settings that differ
    are shown.

    --published sets an evaluation beside figures over many tasks (DB1, JAT) and results task by
    task (JAT, TD-MPC2, Vintix) where version and rules agree, and says of the others why not.

    Example: db1 compare runs/a/evaluation runs/b/evaluation

    Example: db1 compare runs/db1_tiny/evaluation runs/db1_tiny/retrieval --json compare.json

    Example: db1 compare runs/a runs/b

    Example: db1 compare runs/db1_tiny/evaluation --published
    """
    if second is None and not published:
        raise ConfigError("compare: name a second folder, or pass --published")
    console = Console()
    if second is not None and _is_training(first) and _is_training(second):
        if published:
            raise ConfigError("compare: --published goes with an evaluation, got run folders")
        content = _compare_trainings(console, first, second)
    else:
        content = _compare_evaluations(console, first, second, published)
    if json_file is not None:
        atomic_write_text(json_file, json.dumps(content, indent=1) + "\n")
        console.print(f"figures: {json_file}", highlight=False)


def _is_training(folder: Path) -> bool:
    """Tells a training's run folder from an evaluation's."""
    from db1.evaluation.results import RESULTS_FILE

    return (folder / METRICS_FILE).is_file() and not (folder / RESULTS_FILE).is_file()


def _compare_trainings(console: Console, first: Path, second: Path) -> dict[str, Any]:
    from db1.training.metrics.comparison import compare_trainings

    content = compare_trainings(first, second)
    rows = {
        name: [*(_figure(value) for value in pair), _difference(*pair)]
        for name, pair in content["figures"].items()
    }
    _print_rows(console, f"at step {content['step']:,}", ("A", "B", "B - A"), rows)
    console.print(f"A: {first}\nB: {second}", highlight=False)
    a, b = content["last_steps"]
    console.print(f"steps logged: A {a:,}, B {b:,}", highlight=False)
    if not content["settings"]:
        console.print("the settings are the same")
    for key, (mine, other) in content["settings"].items():
        console.print(f"{key}: A {mine}, B {other}", soft_wrap=True, highlight=False)
    return content


def _compare_evaluations(
    console: Console, first: Path, second: Path | None, published: bool
) -> dict[str, Any]:
    from db1.evaluation.results import read_results
    from db1.metrics.compare import compare_results
    from db1.metrics.compare_agents import compare_agents, compare_published

    content: dict[str, Any] = {}
    a = read_results(first)
    if second is not None:
        content["a"], content["b"] = str(first), str(second)
        content |= compare_results(a, read_results(second))
        _print_comparison(console, content)
    if published:
        figures, agents = compare_published(a), compare_agents(a)
        content["published"] = {"results": str(first), "figures": figures, "agents": agents}
        if not figures and not agents:
            console.print("no task in common with published figures")
        _print_figures(console, figures)
        for agent in agents:
            _print_agent(console, agent)
    return content


def _print_comparison(console: Console, content: Mapping[str, Any]) -> None:
    rows = {}
    for task, row in content["tasks"].items():
        mark = {"a": "A *", "b": "B *", None: ""}[row["better"]]
        rows[task] = [
            *(f"{score:.3f}" for score in row["normalised"]),
            f"{row['difference']:+.3f}",
            _interval(row["interval"]),
            f"{row['p_corrected']:.3g}",
            mark,
        ]
    _print_rows(console, "task", ("A", "B", "B - A", "95 % interval", "p", ""), rows)
    console.print(
        f"A: {content['a']}\nB: {content['b']}\np is corrected for the number of tasks",
        highlight=False,
    )
    _print_overall(console, content["overall"], "tasks")
    for name, group in content["by_seen"].items():
        _print_overall(console, group, f"{name} tasks")
    better = content["better"]
    console.print(
        f"A is better on {better['a']}, B on {better['b']}, neither on {better['neither']} tasks",
        highlight=False,
    )
    for key, where in (("only_a", "A"), ("only_b", "B")):
        if content[key]:
            console.print(f"only in {where}: {', '.join(content[key])}", highlight=False)
    for why in content["not_comparable"].values():
        console.print(f"left out: {why}", highlight=False)


def _print_overall(console: Console, overall: Mapping[str, Any], which: str) -> None:
    rows = {
        row["title"]: [
            _value(row["a"], row["is_share"]),
            _value(row["b"], row["is_share"]),
            _value(row["difference"], row["is_share"], sign="+"),
            _interval(row["interval"]),
        ]
        for row in overall["statistics"].values()
    }
    heads = ("A", "B", "B - A", "95 % interval")
    _print_rows(console, f"over {overall['num_tasks']} {which}", heads, rows)
    console.print(
        f"difference of the mean over tasks: p = {overall['p_value']:.3g}", highlight=False
    )


def _print_figures(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    rows = {
        f"{row['agent']}, {row['what']}: {row['title']}": [
            f"{row['theirs']:.3f}",
            f"{row['ours']:.3f}",
            _interval(row["our_interval"], sign=""),
            f"{row['num_tasks']}",
        ]
        for row in found
        if row["ours"] is not None
    }
    if rows:
        heads = ("published", "here", "95 % interval", "tasks")
        _print_rows(console, "agent and figure", heads, rows)
    for row in found:
        note = f"{row['agent']}, {row['what']}: {row['source']}"
        if row["ours"] is None:
            note = (
                f"{row['agent']}, {row['what']}: not compared, {row['num_tasks']} of its "
                f"{row['their_num_tasks']} tasks are here under rules that agree ({row['source']})"
            )
        console.print(note, highlight=False)


def _print_agent(console: Console, found: Mapping[str, Any]) -> None:
    """An agent's results task by task, statistics over them, and what is not compared."""
    name = found["agent"]
    if found["tasks"]:
        _print_tasks(console, found)
    for reason, tasks in found["not_comparable"].items():
        console.print(f"{name}, {_tasks(len(tasks))} not compared: {reason}", highlight=False)
    if found["no_result"]:
        left = _tasks(found["no_result"])
        console.print(f"{name}, {left} not compared: no result is published", highlight=False)
    console.print(f"{name}: {found['source']} ({found['license']})", highlight=False)


def _print_tasks(console: Console, found: Mapping[str, Any]) -> None:
    from db1.metrics.compare_agents import FEWEST_EPISODES

    name, better = found["agent"], found["better"]
    marks = {"ours": "here", "theirs": name, None: ""}
    heads = (name, "here", "difference", "95 % interval")
    rows = {
        task: [
            *(f"{row[whose]:.3f}" for whose in ("theirs", "ours")),
            f"{row['difference']:+.3f}",
            _interval(row["interval"]),
            marks[row["better"]],
        ]
        for task, row in found["tasks"].items()
    }
    _print_rows(console, "task", (*heads, "better"), rows)
    groups = {"": found["overall"]}
    groups |= {f", {which}": group for which, group in found["by_group"].items()}
    for which, group in groups.items():
        rows = {
            row["title"]: [
                *(f"{row[whose]:.3f}" for whose in ("theirs", "ours")),
                f"{row['difference']:+.3f}",
                _interval(row["interval"]),
            ]
            for row in group["statistics"].values()
        }
        _print_rows(console, f"over {_tasks(group['num_tasks'])}{which}", heads, rows)
    told = f"better here on {better['ours']}, there on {better['theirs']} tasks, undecided "
    few = found["few_episodes"]
    why = f" ({few} of them with fewer than {FEWEST_EPISODES} episodes here)" if few else ""
    console.print(f"{name} ({found['kind']}): {told}on {better['neither']}{why}", highlight=False)


def _print_rows(
    console: Console, head: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]
) -> None:
    columns = [[name, *(row[i] for row in rows.values())] for i, name in enumerate(heads)]
    table = narrow_table(head, *heads)
    names = fit_names(list(rows), name_width(console.width, columns))
    for name, cells in zip(names, rows.values(), strict=True):
        table.add_row(name, *cells)
    console.print(table, highlight=False)


def _tasks(number: int) -> str:
    return f"{number:,} task{'' if number == 1 else 's'}"


def _interval(ends: Sequence[float] | None, sign: str = "+") -> str:
    return "-" if ends is None else f"{ends[0]:{sign}.2f} .. {ends[1]:{sign}.2f}"


def _value(value: float, is_share: bool, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if is_share else f"{value:{sign}.4g}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _difference(a: float | None, b: float | None) -> str:
    return "-" if a is None or b is None else f"{b - a:+,.4g}"


VERBS = {"compare": compare}
