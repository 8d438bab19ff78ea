"""Verbs about the tasks: `db1 tasks`, `db1 tasks show | measure | check`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from db1.cli.console import Console
from db1.cli.layout import fit_names, narrow_table
from db1.cli.options import from_dataclasses
from db1.cli.progress import running_bars
from db1.cli.verbs import Verb, VerbGroup
from db1.collection.measure_many import MeasureRequest, MeasureSummary, measure_many
from db1.errors import ConfigError, DataError
from db1.splits import SPLITS, splits_of

if TYPE_CHECKING:
    from db1.suites.listing import TaskLine, TaskRow
    from db1.suites.scores.agents import AgentResult


class _TaskGroup(VerbGroup):
    """`db1 tasks NAME` is `db1 tasks show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb; `show` where the first word is none but names a task or a suite."""
        if args and args[0] not in self.commands:
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_TaskGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
SPLIT_NAMES = f"the named split {', '.join(SPLITS)}"
_COUNTS = {
    "listed": "tasks",
    "runnable": "run here",
    "expert": "expert",
    "references": "known scores",
    "random": "random played",
    "both": "expert played",
    "reached": "good expert",
}


@app.callback(invoke_without_command=True)
def tasks(
    context: typer.Context,
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite (repeatable).")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help=f"Only tasks of {SPLIT_NAMES} (repeatable).")
    ] = None,
    counts: Annotated[
        bool, typer.Option("--counts", help="Print only the counts by suite.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with everything known about each task.")
    ] = False,
) -> None:
    """Lists the tasks, one line each; `db1 tasks NAME` shows one of them.

    A line has: whether the suite is installed, the expert that demonstrates, the mean return of
    random actions, the best return known (of the expert as measured here, else a published one).

    Example: db1 tasks --suite metaworld

    Example: db1 tasks babyai/GoToRedBallGrey

    Example: db1 tasks --split regent-12

    Example: db1 tasks --counts --json
    """
    if context.invoked_subcommand is not None:
        return
    from db1.suites.listing import count_rows, task_lines, task_rows

    if not counts and not as_json:
        _print_lines(task_lines(suite or None, splits=split or None))
        return
    rows = task_rows(suite or None, splits=split or None)
    by_suite = count_rows(rows)
    if as_json:
        content = by_suite if counts else [row.to_dict() for row in rows]
        typer.echo(json.dumps(content, indent=1))
        return
    Console().print(_count_table(by_suite))


@app.command(cls=Verb)
def show(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Task ids, or suites to list.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shows all that is known of a task: whether it runs here, its expert, returns of others.

    Example: db1 tasks tsp/uniform20

    Example: db1 tasks show atari/Pong --json
    """
    from db1.suites import SUITES
    from db1.suites.listing import task_lines, task_row

    rows = []
    for name in names:
        if "/" in name:
            suite, _, task = name.partition("/")
            SUITES[suite].check_task(task)
            rows.append(task_row(name))
        elif as_json:
            raise ConfigError(f"{name}: expected suite/task; `db1 tasks --suite {name} --json`")
        else:
            _print_lines(task_lines([name]))
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=1))
        return
    for row in rows:
        _print_details(row)


def _print_lines(lines: Sequence[TaskLine]) -> None:
    """One line a task; its id comes last, whole where the output is no terminal."""
    ids = [line.id for line in lines]
    if sys.stdout.isatty():
        ids = fit_names(ids, max(24, shutil.get_terminal_size().columns - 44))
    experts = sorted({line.expert or "none: import" for line in lines})
    named = dict(zip(experts, fit_names(experts, 16), strict=True))
    typer.echo(f"here {'expert':16} {'random':>9} {'best':>9}  task")
    for line, name in zip(lines, ids, strict=True):
        is_foreign = line.best is not None and line.source != "measured"
        typer.echo(
            f"{'yes' if line.installed else 'no':4} {named[line.expert or 'none: import']:16} "
            f"{_number(line.random):>9} {_number(line.best):>9}{'*' if is_foreign else ' '} {name}"
        )
    if any(line.best is not None and line.source != "measured" for line in lines):
        typer.echo("* a published figure; `db1 tasks NAME` says whose")
    suites = {line.id.partition("/")[0] for line in lines}
    typer.echo(
        f"{len(lines):,} tasks of {len(suites)} suites; `db1 tasks NAME` shows one, `--counts` "
        "counts them"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _print_details(row: TaskRow) -> None:
    """A task, one fact a line."""
    from db1.suites import SUITES

    suite, _, name = row.id.partition("/")
    facts = {
        "in words": SUITES[suite].words(name),
        "runs here": "yes" if row.reason is None else f"no: {row.reason}",
        "expert": row.describes_expert,
        "data sets": ", ".join(row.datasets) or "none known",
        "splits": ", ".join(splits_of(row.id)) or "none",
    }
    typer.echo(row.id)
    for title, text in facts.items():
        typer.echo(f"  {title + ':':13} {text}")
    typer.echo("  references:   random to expert (* another version or other rules)")
    for name, found in row.references.items():
        star = "" if found.comparable else "*"
        line = f"    {name + star:12} {_number(found.random)} to {_number(found.best)}"
        typer.echo(line if found.comparable else f"{line}; {found.why_not}")
    if not row.references:
        typer.echo("    none: db1 tasks measure measures them")
    if row.agents:
        typer.echo("  other agents: mean and spread of returns (* another version or other rules)")
    for found in row.agents.values():
        _print_agent(found)


def _print_agent(found: AgentResult) -> None:
    """A published result, its rules, and where it stands."""
    star = "" if found.comparable else "*"
    score = "" if found.score is None else f", score {found.score:.2f}"
    if found.random is not None and found.expert is not None and score:
        score += f" (0 is {found.random:.4g}, 1 is {found.expert:.4g})"
    unseen = ", a task that it did not learn" if found.unseen else ""
    line = f"    {found.agent + star:12} {found.mean:.5g} +- {found.std:.3g}{score}{unseen}"
    typer.echo(line if found.comparable else f"{line}; {found.why_not}")
    for text in (
        f"{found.kind}; {found.protocol}",
        found.environment,
        f"{found.source} ({found.license})",
        f"rules: {found.rules_source}",
    ):
        typer.echo(f"      {text}")


@app.command(cls=Verb)
@from_dataclasses
def measure(
    request: MeasureRequest,
    task: Annotated[list[str] | None, typer.Argument(help="Task ids; default: all.")] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="All tasks of this suite (repeatable).")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help=f"All tasks of {SPLIT_NAMES} (repeatable).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the scores, one file per suite.")] = Path(
        "data/scores"
    ),
) -> None:
    """Measures random and expert returns on reference seeds; what is measured stays.

    `db1 eval --scores FOLDER` normalises by them.

    Example: db1 tasks measure tsp/uniform20 --episodes 20

    Example: db1 tasks measure --suite metaworld --policy expert --max-seconds 60
    """
    from db1.suites.listing import choose_tasks

    chosen = choose_tasks(task, suite, split)
    console = Console()
    with running_bars(console, len(chosen)) as report:
        summary = measure_many(chosen, request, out, progress=report)
    _print_measured(summary, out, console)
    named = {
        name: summary.not_runnable[name] for name in task or () if name in summary.not_runnable
    }
    failures = summary.failures | named
    if failures:
        lines = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise DataError(f"{len(failures)} of {len(chosen)} tasks failed: {lines}")


def _count_table(counts: dict[str, dict[str, int]]) -> Table:
    table = narrow_table("suite", *_COUNTS.values())
    for name, group in counts.items():
        if name == "total":
            table.add_section()
        table.add_row(name, *(str(group.get(key, 0)) for key in _COUNTS))
    return table


@app.command()
def check(
    what: Annotated[list[str], typer.Argument(metavar="SUITE...", help="Suites, or task ids.")],
    sample: Annotated[
        int | None,
        typer.Option(
            help="Check only this many tasks per suite, evenly spread; default: all.", min=1
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Runs the contract tests on a suite, one of your own too; exit status 1 where one fails.

    Example: db1 tasks check my_suite --plugin my_suite.py

    Example: db1 tasks check metaworld --sample 3

    Example: db1 tasks check gym/my_environment:Lamp-v0
    """
    from db1.suites import make_env, parse_task_id
    from db1.suites.contract import CHECKS, check_task

    results = []
    for task in _named(what, sample):
        suite, name = parse_task_id(task)
        reason = suite.task_missing(name)
        if reason is not None:
            typer.echo(f"{task}: does not run here: {reason}", err=True)
            continue
        found = list(check_task(task, partial(make_env, task)))
        results += found
        if not as_json:
            bad = [result for result in found if result.problem is not None]
            passed = f"{len(found) - len(bad)} of {len(CHECKS)} checks passed"
            typer.echo(f"{task}: {passed}")
            for result in bad:
                typer.echo(f"  failed: {result.check}: {result.problem}")
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=1))
    if not results or any(result.problem is not None for result in results):
        raise typer.Exit(1)


def _named(what: Sequence[str], sample: int | None) -> list[str]:
    """Task ids of suites and task ids; of a suite `sample` ones, spread over its list."""
    from db1.suites import SUITES

    tasks = []
    for name in what:
        if "/" in name:
            tasks.append(name)
            continue
        listed = SUITES[name].task_names()
        if not listed:
            raise ConfigError(f"{name}: lists no task, name some: {name}/TASK")
        count = len(listed) if sample is None else min(sample, len(listed))
        tasks += [f"{name}/{listed[i * len(listed) // count]}" for i in range(count)]
    return tasks


def _print_measured(summary: MeasureSummary, out: Path, console: Console) -> None:
    """One row a task that has measurements now, and one line of counts."""
    from db1.suites.scores import read_measured

    table = Table(Column("task", no_wrap=True))
    for title in ("random", "episodes", "expert", "episodes"):
        table.add_column(title, justify="right", no_wrap=True)
    for task in sorted({*summary.measured, *summary.kept}):
        entry = read_measured(task, out)[-1]
        cells = []
        for found in (entry.random, entry.expert):
            cells += (
                ["-", "-"] if found is None else [f"{found['mean']:.4g}", f"{found['episodes']}"]
            )
        table.add_row(task, *cells)
    console.print(table)
    console.print(
        f"{len(summary.measured)} tasks measured, {len(summary.kept)} measured before, "
        f"{len(summary.no_expert)} without an expert, {len(summary.not_runnable)} do not run here, "
        f"{len(summary.failures)} failed; scores: {out}",
        soft_wrap=True,
    )
    for reason in sorted({_cause(t, r) for t, r in summary.not_runnable.items()}):
        console.print(f"does not run here: {reason}", soft_wrap=True)


def _cause(task: str, reason: str) -> str:
    """A reason without the task it is about, so that equal reasons are said once."""
    suite = task.partition("/")[0]
    return reason.replace(f"{task}: ", f"{suite}: ")


APPS = {"tasks": app}
