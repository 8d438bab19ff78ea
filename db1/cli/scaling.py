"""The verb `db1 bench scaling`: how far data parallelism carries, on paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from db1.benchmarks.scaling import ScalingBenchmark, run
from db1.cli.console import Console
from db1.cli.layout import narrow_table
from db1.cli.options import from_dataclasses
from db1.cli.outputs import JsonFile
from db1.cli.progress import task_bars
from db1.files import atomic_write_text

Figures = Mapping[str, Any]

COLUMNS = 7
"""Numbers of GPUs beside each other."""

NOTES = {
    "best": "of the fastest way that fits (stages 1 to 3): overlapped/in turn; * computes "
    "activations twice; - nothing fits",
    "memory": "activations of so many sequences at once (rows): plain, or recomputed in the "
    "backward pass",
    "steps": "rows: sequences of a GPU at once; sent: GB of each GPU, as many received; efficiency "
    "if communication hides behind computing (overlap), and if not (in turn). ZeRO: as it runs; "
    "db1 takes stage 2 for 1 where a step has several micro-batches. bf16 at stage 0 is refused; "
    "-: the batch cannot be shared equally",
    "limits": "batch: a GPU has one sequence; "
    "network: communication takes more than a tenth; memory: nothing fits. Beyond it only a "
    "larger batch, tensor or sequence parallelism help; db1 has none of the latter two",
    "measured": "one core, files in memory; the rest of the page is arithmetic",
    "needed": "of one GPU: read from the store, sent to the GPU; reader processes with files in "
    "memory and over the network; link: share of the file system's bandwidth that a machine "
    "takes, above 100 % it is too slow",
}


@from_dataclasses
def scaling(
    options: ScalingBenchmark,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure stores with little data; takes seconds.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Memory, communication and readers of data parallelism on many GPUs, worked out, not run.

    Sizes are counted as `db1 train --dry-run` does; peak, bandwidths and latencies are options, and
    assumptions. Only what stores deliver is measured, on one core of this machine.

    Example: db1 bench scaling

    Example: db1 bench scaling --sizes 1.2b --gpus 8,64,512 --batch 2048 --json scaling.json

    Example: db1 bench scaling --sizes 10b --memory-gb 141 --node 4 --between-gbs 25

    Example: db1 bench scaling --sizes configs/db1_tiny.yaml --gpus 1,2 --quick
    """
    with task_bars(Console(stderr=True)) as progress:
        figures = run(options, quick, progress)
    console = Console()
    for table in tables(figures):
        console.print(table)
    if json_file is not None:
        atomic_write_text(json_file, json.dumps(figures, indent=1) + "\n")
        console.print(f"figures: {json_file}", highlight=False)


def tables(figures: Figures) -> Iterator[Table]:
    """All tables, none wider than 80 columns.

    Args:
        figures: From `db1.benchmarks.scaling.run`.
    """
    yield _sizes(figures)
    for size in figures["sizes"]:
        yield _memory(size)
        yield _steps(size)
    yield _best(figures)
    yield _limits(figures)
    yield _measured(figures)
    yield _needed(figures)


def _sizes(figures: Figures) -> Table:
    assumed = figures["assumed"]
    table = narrow_table(
        "size", "parameters", "FLOPs a token", "tokens/s a GPU", "batch", "tokens",
        title=f"assumed: {assumed['mfu']:.0%} of {assumed['peak_tflops']:g} TFLOP/s a GPU",
    )  # fmt: skip
    for size in figures["sizes"]:
        table.add_row(
            size["name"],
            f"{size['parameters']:,}",
            f"{size['operations_a_token']:.3g}",
            f"{size['tokens_a_second_of_a_gpu']:,.0f}",
            f"{size['batch']:,}",
            f"{size['sequence']:,}",
        )
    return table


def _memory(size: Figures) -> Table:
    heads = ("weights", "gradients", "Adam", "buffers", "plain", "recomp.")
    table = narrow_table(
        "GPUs", "ZeRO", "rows", *heads, title=f"{size['name']}: GB of a GPU, {size['precision']}"
    )
    for row in size["rows"]:
        parts = [row["state"][key] for key in ("parameters", "gradients", "optimizer", "buffers")]
        step = row["step"]
        kept = ["-", "-"] if step is None else map(gigabytes, row["activations"].values())
        at_once = "-" if step is None else str(step["micro_batch"])
        stage = str(row["zero_stage"])
        table.add_row(f"{row['gpus']:,}", stage, at_once, *map(gigabytes, parts), *kept)
    return _noted(table, "memory")


def _steps(size: Figures) -> Table:
    table = narrow_table(
        "GPUs", "ZeRO", "rows", "sent, GB", "network, s", "compute, s", "overlap", "in turn",
        title=f"{size['name']}: a step of {size['batch']:,} sequences",
    )  # fmt: skip
    for row in size["rows"]:
        step, gpus = row["step"], f"{row['gpus']:,}"
        if step is None:
            table.add_row(gpus, str(row["zero_stage"]), *"------")
            continue
        table.add_row(
            gpus,
            str(step["stage"]),
            str(step["micro_batch"]),
            gigabytes(step["sent"]),
            seconds(step["network"]),
            seconds(step["compute"]),
            percent(step["overlapped"]),
            percent(step["not_overlapped"]),
        )
    return _noted(table, "steps")


def _best(figures: Figures) -> Table:
    shown = sorted({way["gpus"] for size in figures["sizes"] for way in size["best"]})[-COLUMNS:]
    table = narrow_table(
        "size", *(f"{gpus:,}" for gpus in shown), title="efficiency, %, by number of GPUs"
    )
    for size in figures["sizes"]:
        steps = {way["gpus"]: way["step"] for way in size["best"]}
        table.add_row(size["name"], *(both_efficiencies(steps.get(gpus)) for gpus in shown))
    return _noted(table, "best")


def both_efficiencies(step: Figures | None) -> str:
    """`100/91`: overlapped, and in turn; `*` where activations are computed twice."""
    if step is None:
        return "-"
    twice = "*" if step["recomputed"] else ""
    return f"{int(100 * step['overlapped'])}/{int(100 * step['not_overlapped'])}{twice}"


def _limits(figures: Figures) -> Table:
    table = narrow_table(
        "size", "batch", "fits from", "overlapped", "ends by", "in turn", "ends by",
        title="most GPUs at which data parallelism keeps 90 %",
    )  # fmt: skip
    for size in figures["sizes"]:
        found = size["limits"]
        cells = [
            text
            for key in ("overlapped", "not_overlapped")
            for text in (count(found[key]["gpus"]), found[key]["why"])
        ]
        table.add_row(size["name"], f"{size['batch']:,}", count(found["least_gpus"]), *cells)
    return _noted(table, "limits")


def _measured(figures: Figures) -> Table:
    table = narrow_table(
        "samples", "tokens/s", "MB/s", "kB a sample", "reads", "kB a sample in a batch",
        title="measured: a core reads from stores",
    )  # fmt: skip
    for found in figures["measured"]:
        table.add_row(
            found["name"],
            f"{found['tokens_a_second']:,.0f}",
            f"{found['stored_bytes_a_second'] / 1e6:,.0f}",
            f"{found['stored_bytes'] / 1e3:,.1f}",
            str(found["reads"]),
            f"{found['batch_bytes'] / 1e3:,.1f}",
        )
    return _noted(table, "measured")


def _needed(figures: Figures) -> Table:
    assumed = figures["assumed"]
    table = narrow_table(
        "size", "samples", "MB/s read", "MB/s sent", "readers", "network", "link",
        title=f"readers; assumed: {assumed['storage_gbs']:g} GB/s a machine of {assumed['node']} "
        f"GPUs, {assumed['storage_ms']:g} ms an access",
    )  # fmt: skip
    for row in figures["needed"]:
        table.add_row(
            row["size"],
            row["modality"],
            megabytes(row["stored_bytes_a_second"]),
            megabytes(row["batch_bytes_a_second"]),
            str(row["readers_local"]),
            str(row["readers_network"]),
            f"{100 * row['network_share']:,.0f} %",
        )
    return _noted(table, "needed")


def _noted(table: Table, name: str) -> Table:
    table.caption, table.caption_justify = NOTES[name], "left"
    return table


def gigabytes(num_bytes: float) -> str:
    """1.5e9 -> `1.50`."""
    return f"{num_bytes / 1e9:,.2f}"


def megabytes(num_bytes: float) -> str:
    """1.5e6 -> `1.5`, 150e6 -> `150`."""
    value = num_bytes / 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def seconds(value: float) -> str:
    """0.01234 -> `0.0123`."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def percent(value: float) -> str:
    """0.912 -> `91 %`; just below 1 is not 100."""
    return f"{int(100 * value)} %"


def count(value: int | None) -> str:
    """512 -> `512`; `none` where there is none."""
    return "none" if value is None else f"{value:,}"
