"""Verbs about this machine: `db1 doctor`, `db1 tasks`."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from db1.suites.base import Suite


def doctor() -> None:
    """Shows what runs on this machine and the command that installs the rest.

    Example: db1 doctor
    """
    import torch

    from db1 import __version__
    from db1.suites import SUITES

    table = Table("part", "state", title=f"db1 {__version__}")
    table.add_row("python", f"{platform.python_version()} ({sys.executable})")
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpus = torch.cuda.device_count()
    table.add_row("gpu", torch.cuda.get_device_name(0) + f" x {gpus}" if gpus else "none: CPU runs")
    for package in ("deepspeed", "tokenizers", "tensorboard", "matplotlib"):
        found = importlib.util.find_spec(package) is not None
        table.add_row(package, "ok" if found else f"missing: pip install {package}")
    built = importlib.util.find_spec("db1._index") is not None
    extension = "ok" if built else "not built: pip install --no-build-isolation -e ."
    table.add_row("C++ index builder", extension)
    for name in SUITES:
        suite = SUITES[name]
        reason = suite.missing()
        table.add_row(f"suite {name}", reason or f"ok, {len(suite.task_names())} tasks")
    Console().print(table)


def tasks(
    suite: Annotated[str | None, typer.Option(help="Only this suite.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Lists the tasks: runnable here or why not, and their expert.

    Example: db1 tasks --suite metaworld
    """
    from db1.suites import SUITES

    rows = []
    for name in [suite] if suite else list(SUITES):
        rows += [_task_row(SUITES[name], task) for task in SUITES[name].task_names()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(Column("task", no_wrap=True), "runs here", "expert", title=f"{len(rows)} tasks")
    for row in rows:
        table.add_row(row["id"], "yes" if row["runnable"] else row["reason"], row["expert"] or "-")
    Console().print(table)


def _task_row(suite: Suite, task_name: str) -> dict[str, object]:
    reason = suite.task_missing(task_name)
    return {
        "id": f"{suite.name}/{task_name}",
        "suite": suite.name,
        "runnable": reason is None,
        "reason": reason,
        "expert": suite.expert_name(task_name),
        "references": {},
    }


VERBS = {"doctor": doctor, "tasks": tasks}
