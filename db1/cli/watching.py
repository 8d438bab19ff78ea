"""Verbs that show episodes: `db1 record`, `db1 play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from db1.cli.device import checked_device
from db1.cli.progress import running_bars
from db1.runtime import draw_off_screen


def record(
    folder: Annotated[Path, typer.Argument(help="A folder with results.json.")],
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks (repeatable).")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only these suites.")] = None,
    per_suite: Annotated[
        int | None,
        typer.Option(help="The most tasks of a suite, from its best to its worst.", min=1),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run, where it is no longer at its old place.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Demonstrations for prompts; default: the run's.")
    ] = None,
    frames: Annotated[int, typer.Option(help="The most frames of a film.", min=16)] = 80,
    size: Annotated[int, typer.Option(help="Pixels of its longer side.", min=16)] = 240,
    overwrite: Annotated[bool, typer.Option(help="Film again what is there.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU.")] = None,
) -> None:
    """Films the best, median and worst episode of each evaluated task, for the report.

    The episodes are run again from their seeds, and their returns compared with results.json. What
    is filmed already is kept: the same command resumes.

    Example: db1 record runs/db1_tiny/evaluation

    Example: db1 record runs/big/evaluation --per-suite 3 --size 160
    """
    draw_off_screen()
    from db1.evaluation.watching.record import FilmConfig, choose_tasks, read_results, record

    results = read_results(folder)
    total = len(choose_tasks(results, task, suite, per_suite))
    with running_bars(Console(), total) as progress:
        recordings = record(
            folder,
            FilmConfig(frames=frames, size=size),
            tasks=task,
            suites=suite,
            per_suite=per_suite,
            run=run,
            data=data,
            overwrite=overwrite,
            device=checked_device(device),
            progress=progress,
        )
    episodes = [e for r in recordings.values() for e in r.get("episodes", {}).values()]
    same = sum(episode["same"] for episode in episodes)
    typer.echo(f"recorded: {len(episodes)} episodes of {len(recordings)} tasks in {folder}/videos")
    typer.echo(f"same returns as evaluated: {same} of {len(episodes)}")
    failures = {task: r["failure"] for task, r in recordings.items() if "failure" in r}
    for name, reason in failures.items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if failures:
        raise typer.Exit(1)


VERBS = {"record": record}
