"""The verb `db1 bench few-shot`: learning curves by number of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from db1.benchmarks.few_shot import FewShotBenchmark, bench_few_shot, check
from db1.cli.console import Console
from db1.cli.options import Given, Of, from_dataclasses
from db1.cli.progress import task_bars


@from_dataclasses
def few_shot(
    config: Annotated[Path, typer.Argument(help="YAML file of a fine-tuning experiment.")],
    sweep: Annotated[Given, Of(FewShotBenchmark)],
    override: Annotated[
        list[str] | None, typer.Argument(help="Overrides: key=value, keys dotted.")
    ] = None,
    require_gain: Annotated[
        bool,
        typer.Option(
            "--require-gain",
            help="Exit with status 1 unless the interval of every gain lies above 0.",
        ),
    ] = False,
) -> None:
    """Fine-tuned weights against the same model from scratch, by number of demonstrations.

    Trains and evaluates starts x episodes x seeds; prints means with 95 % intervals over the seeds
    (Student's t) and the gains over `scratch`, paired by seed. The same command goes on where it
    was cut off. Writes results.json and curve.png below --out.

    Example: db1 bench few-shot configs/few_shot.yaml --episodes 1 --episodes 3 --episodes 10

    Example: db1 bench few-shot configs/finetune.yaml init_from=runs/db1_tiny
    task=metaworld/window-close-v3 --start pretrained --start lora --start scratch --seeds 3
    """
    bench = FewShotBenchmark(config=config, overrides=tuple(override or ()), **sweep)
    check(bench)  # bad input is one line, without a bar above it
    with task_bars(Console(stderr=True)) as progress:
        results = bench_few_shot(bench, progress)
    console = Console()
    console.print(_table(results))
    for gain in results["gains"]:
        console.print(_gain(gain, len(results["seeds"])), highlight=False, soft_wrap=True)
    console.print(
        f"figures: {bench.out / 'results.json'}, {bench.out / 'curve.png'}", highlight=False
    )
    if require_gain and not all(_is_above_zero(gain) for gain in results["gains"]):
        raise typer.Exit(1)


def _table(results: Mapping[str, Any]) -> Table:
    table = Table("start", "episodes", "score", "success", title="score: 0 random, 1 expert")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in sorted(results["curve"], key=lambda row: (row["episodes"], row["start"])):
        shown = [
            _with_interval(row[key]) if key in row else "-" for key in ("score", "success_rate")
        ]
        table.add_row(row["start"], str(row["episodes"]), *shown)
    return table


def _gain(gain: Mapping[str, Any], num_seeds: int) -> str:
    return (
        f"{gain['start']} - scratch at {gain['episodes']} episodes: {_with_interval(gain)}, "
        f"{num_seeds} seeds"
    )


def _with_interval(value: Mapping[str, Any]) -> str:
    if value["interval"] is None:
        return f"{value['mean']:.2f}"
    low, high = value["interval"]
    return f"{value['mean']:.2f} ({low:.2f} to {high:.2f})"


def _is_above_zero(gain: Mapping[str, Any]) -> bool:
    return (gain["mean"] if gain["interval"] is None else gain["interval"][0]) > 0
