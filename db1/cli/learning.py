"""Verbs about learning: `db1 train`, `db1 parity`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from db1.cli.console import Console
from db1.cli.launch import check_rollout_tasks
from db1.cli.options import from_dataclasses
from db1.errors import ConfigError
from db1.options import option
from db1.ranges import Checked, Count


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Checked):
    """Options of the verb: a plan instead of a training, and the processes of one."""

    dry_run: bool = option(False, "Only print parameters, memory and work; needs no data.")
    world_size: Count = option(1, "With --dry-run: processes to plan for.")
    as_json: bool = option(False, "With --dry-run: print JSON.", name="json")
    processes: Count | None = option(
        None,
        "Processes to train with when there is no GPU; default: one per core "
        "where that pays, else 1.",
    )


@from_dataclasses
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of an experiment.")],
    wanted: TrainOptions,
    override: Annotated[
        list[str] | None, typer.Argument(help="Overrides: key=value, keys dotted.")
    ] = None,
) -> None:
    """Trains an experiment; the same command resumes an interrupted run.

    Without a GPU one process a core trains, with one thread each, where that is faster: the samples
    of a step stay the same. `--processes 1` trains in one, with a thread a core.

    Example: db1 train configs/db1_tiny.yaml training.num_steps=500 name=short

    Example: db1 train configs/db1_1.2b.yaml --dry-run --world-size 8 training.zero_stage=2

    Example: db1 train configs/db1_tiny.yaml --processes 2

    Many GPUs or machines: db1 launch CONFIG --port 29502
    """
    overrides = override or []
    if wanted.dry_run:
        _plan(config, overrides, wanted)
        return
    if wanted.as_json or wanted.world_size != 1:
        raise ConfigError(
            "--json and --world-size go with --dry-run; many processes train through "
            "`db1 launch CONFIG`"
        )
    from db1.training.experiment import load_experiment, run_experiment
    from db1.training.launch import local

    check_rollout_tasks(config, overrides)
    split = local.for_this_machine(config, overrides, wanted.processes)
    if (line := split.line()) is not None:
        typer.echo(line, err=True)
    if split.processes > 1:
        settings = [*(overrides), *split.overrides]
        if status := local.run(config, settings, split.processes):
            raise typer.Exit(status)
        folder = load_experiment(config, settings).run_folder
    else:
        folder = run_experiment(config, overrides)
    Console().print(f"run folder: {folder}")


def _plan(config: Path, overrides: list[str], wanted: TrainOptions) -> None:
    from db1.cli.plan import show_plan
    from db1.training.experiment import load_experiment
    from db1.training.sizing.plan import plan

    planned = plan(load_experiment(config, overrides), wanted.world_size)
    if wanted.as_json:
        typer.echo(json.dumps(planned.to_dict(), indent=1))
    else:
        show_plan(planned, Console())


def parity(
    file: Annotated[Path, typer.Argument(help="Recorded tensors of the released model (.npz).")],
    tolerance: Annotated[float, typer.Option(help="Largest difference that is accepted.")] = 1e-4,
) -> None:
    """Compares the model with recorded tensors; prints the largest difference by section.

    Exit status 1 above the tolerance.

    Example: db1 parity tests/golden/released.npz
    """
    from db1.checkpoint.parity import compare

    results = compare(file)
    table = Table("section", "largest difference", title=str(file))
    for result in results:
        table.add_row(result.name, f"{result.max_difference:.3e}")
    Console().print(table)
    if max(result.max_difference for result in results) > tolerance:
        raise typer.Exit(1)


VERBS = {"train": train, "parity": parity}
