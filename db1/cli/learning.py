"""Verbs about learning: `db1 train`, `db1 parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def train(
    config: Annotated[Path, typer.Argument(help="An experiment's YAML file.")],
    override: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
) -> None:
    """Trains an experiment on one process; the same command resumes an interrupted run.

    Example: db1 train configs/db1_tiny.yaml training.num_steps=500 name=short

    Many processes: deepspeed --num_gpus 2 --master_port 29502 --module db1.training CONFIG
    """
    from db1.training.experiment import run_experiment

    folder = run_experiment(config, override or [])
    Console().print(f"run folder: {folder}")


def parity(
    file: Annotated[Path, typer.Argument(help="Recorded tensors of the released model (.npz).")],
    tolerance: Annotated[float, typer.Option(help="Largest difference that passes.")] = 1e-4,
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
