"""The verbs `db1 launch` (a training on many processes) and `db1 plot` (its curves)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from db1.cli.options import Given, Of, from_dataclasses
from db1.training.launch import launcher


@from_dataclasses
def launch(
    config: Annotated[Path, typer.Argument(help="YAML file of an experiment.")],
    where: Annotated[Given, Of(launcher.Launch)],
    override: Annotated[
        list[str] | None, typer.Argument(help="Overrides: key=value, keys dotted.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only check, and print DeepSpeed's command line.")
    ] = False,
) -> None:
    """Trains an experiment on many processes of one machine or many; the same command resumes.

    Checks port, machines and batch size first, then runs DeepSpeed's launcher. SIGTERM or Ctrl-C:
    the training saves and ends.

    Example: db1 launch configs/db1_79m.yaml --port 29502

    Example: db1 launch configs/db1_364m.yaml --port 29502 --hostfile hosts training.zero_stage=2

    Example: db1 launch configs/db1_1.2b.yaml --hostfile hosts --node-rank 1
    """
    check_rollout_tasks(config, override or [])
    wanted = launcher.Launch(config=config, overrides=tuple(override or ()), **where)
    plan = launcher.prepare(wanted)
    typer.echo(launcher.shown(plan.command), err=not show)
    if not show:
        raise typer.Exit(launcher.run(plan))


def check_rollout_tasks(config: Path, overrides: Sequence[str]) -> None:
    """Loads the experiment's plug-ins; ConfigError for a task of its rollouts that no suite has."""
    from db1.suites import parse_task_id
    from db1.suites.plugins import load_plugins
    from db1.training.experiment import load_experiment

    experiment = load_experiment(config, overrides)
    load_plugins(experiment.plugins)
    for task in experiment.training.rollouts.tasks:
        parse_task_id(task)


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .png, .svg, .pdf or .html file; default: RUN/curves.html."),
    ] = None,
) -> None:
    """Draws the curves of a training, also while it runs: losses, scores, speed.

    Several runs share the axes.

    Example: db1 plot runs/db1_tiny

    Example: db1 plot runs/narrow runs/wide --out widths.png
    """
    from db1.training.metrics.curves import write_curves

    out = out or runs[0] / "curves.html"
    write_curves(runs, out)
    typer.echo(f"curves: {out}")


VERBS = {"launch": launch, "plot": plot}
