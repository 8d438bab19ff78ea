"""The verbs `db1 bench WHAT`: side-by-side measurements that print ratios."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from db1.benchmarks import attention, decode, evaluation, perplexity, serving, training_step
from db1.benchmarks.timing import Comparison, machine
from db1.cli.console import Console
from db1.cli.device import checked_device
from db1.cli.few_shot import few_shot
from db1.cli.model_argument import Run
from db1.cli.options import Given, Of, from_dataclasses
from db1.cli.outputs import JsonFile
from db1.cli.progress import task_bars
from db1.cli.scaling import scaling
from db1.cli.verbs import Verb, VerbGroup
from db1.errors import check_one_of
from db1.files import atomic_write_text

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    help="Measures db1 side by side with a reference; prints ratios. "
    "Example: db1 bench decode --quick",
)

app.command("few-shot", cls=Verb)(few_shot)
app.command("scaling", cls=Verb)(scaling)

Quick = Annotated[
    bool, typer.Option("--quick", help="Use small sizes in place of those given; takes seconds.")
]


@app.command("serving", cls=Verb)
@from_dataclasses
def bench_serving(
    run: Run,
    sizes: Annotated[Given, Of(serving.ServingBenchmark)],
    json_file: JsonFile = None,
) -> None:
    """Many sessions batched in one process against processes that each act alone.

    The processes start as far as the memory reaches, act all at once, and tell what they take.

    Example: db1 bench serving runs/db1_tiny --sessions 64 --processes 2

    Example: db1 bench serving base --processes 64 --json serving.json
    """
    benchmark = serving.ServingBenchmark(run=run, **sizes)
    figures = serving.time_serving(benchmark, lambda text: typer.echo(text, err=True)).figures()
    for name, value in figures.items():
        typer.echo(f"{name}: {_figure(value)}")
    if json_file is not None:
        options = " ".join(f"--{name} {value}" for name, value in sizes.items())
        content = {
            "figures": figures,
            "command": f"db1 bench serving {run.name} {options}".strip(),
            "machine": machine(),
        }
        atomic_write_text(json_file, json.dumps(content, indent=1) + "\n")


@app.command("decode", cls=Verb)
@from_dataclasses
def bench_decode(
    config: decode.DecodeBenchmark, quick: Quick = False, json_file: JsonFile = None
) -> None:
    """Acting with cached keys and values against recomputing the memory at each token.

    All contenders have the same weights, and their outputs are compared first. `hidden states` is
    how the released model acts: it keeps hidden states and projects all of them at each token.
    A single token is limited by reading the weights, which more threads do not speed up, so that
    the ratio falls with threads and rises with episodes at once.

    Example: db1 bench decode --width 2048 --layers 2 --memory 1024

    Example: db1 bench decode --batch 8 --no-whole --threads 2

    Example: db1 bench decode --layers 24 --precision bf16 --device cuda --no-whole

    Example: db1 bench decode --quick --json decode.json
    """
    with task_bars(Console(stderr=True)) as progress:
        comparison = decode.run(config.small() if quick else config, progress)
    show([comparison], json_file)


@app.command("attention", cls=Verb)
@from_dataclasses
def bench_attention(
    config: attention.AttentionBenchmark, quick: Quick = False, json_file: JsonFile = None
) -> None:
    """One layer's attention, forward and backward: db1's kernel against the other ones.

    Results are compared first. Beside the times stand each kernel's peak memory, the least bytes
    and operations of the work, and the time that this device needs for these at its full speed.

    Example: db1 bench attention --tokens 1024

    Example: db1 bench attention --device cuda --precision bf16 --heads 16 --head-width 128

    Example: db1 bench attention --quick --json attention.json
    """
    checked_device(config.device)
    with task_bars(Console(stderr=True)) as progress:
        comparison = attention.run(config.small() if quick else config, progress)
    show([comparison], json_file)


@app.command("perplexity", cls=Verb)
@from_dataclasses
def bench_perplexity(
    config: perplexity.PerplexityBenchmark, quick: Quick = False, json_file: JsonFile = None
) -> None:
    """Scoring text with a memory against recomputing a sliding window for every token.

    Times are of the processor. Beside cached keys and recomputed windows stands a memory of
    hidden states, Transformer-XL's own, which projects them to keys again for each segment.

    Example: db1 bench perplexity

    Example: db1 bench perplexity --length 800 --length 3800 --json perplexity.json
    """
    with task_bars(Console(stderr=True)) as progress:
        comparisons = perplexity.run(config.small() if quick else config, progress)
    show(comparisons, json_file)


@app.command("data", cls=Verb)
def data(quick: Quick = False, json_file: JsonFile = None) -> None:
    """Loader, index builder and stores against their references.

    The loader is measured against a PyTorch dataset over one .npy file a trajectory that tokenises
    step by step; both give the same ids. The full sizes take some minutes and 2 GB of temporary
    files.

    Example: db1 bench data --quick --json data.json
    """
    from db1.benchmarks.data import bench_data
    from db1.benchmarks.index import bench_index
    from db1.benchmarks.store import bench_store

    with task_bars(Console(stderr=True)) as progress:
        comparisons = bench_data(quick, progress=progress)
        comparisons += bench_index(quick, progress=progress)
        comparisons += bench_store(quick, progress=progress)
    show(comparisons, json_file)


@app.command("train", cls=Verb)
@from_dataclasses
def bench_train(
    config: training_step.StepBenchmark,
    against: Annotated[str, typer.Option(help="What to compare db1 with: released.")] = "released",
    targets: Annotated[
        list[float] | None,
        typer.Option(help="Share of tokens that are targets (repeatable); default: 1 and 0.1."),
    ] = None,
    quick: Quick = False,
    json_file: JsonFile = None,
) -> None:
    """A training step against the released model's formulation of it, with the same weights.

    Forward and backward of one batch. The released formulation takes scores by einsum in float32
    over all pairs of tokens and logits of all tokens, and keeps hidden states as a memory. Loss and
    gradients are compared first. Prints peak memory, operations and bytes of a layer, host waits,
    graph breaks, and how near the device's best products the step comes.

    Example: db1 bench train --against released

    Example: db1 bench train --width 2048 --layers 24 --heads 16 --precision bf16 --device cuda

    Example: db1 bench train --quick --json train.json
    """
    check_one_of("--against", against, [training_step.RELEASED])
    config = config.small() if quick else config
    with task_bars(Console(stderr=True)) as progress:
        comparisons = [
            training_step.run(replace(config, targets=share), progress)
            for share in targets or [1.0, 0.1]
        ]
    show(comparisons, json_file)


@app.command("training", cls=Verb)
def training(
    sizes: Annotated[
        list[str] | None,
        typer.Argument(
            help="79m, 364m, 1.2b, tiny or YAML files, then key=value overrides for all of them."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Minutes per size.", min=0.0)] = 3.0,
    precision: Annotated[str, typer.Option(help="bf16, fp16 or fp32.")] = "bf16",
    out: Annotated[Path, typer.Option(help="Folder for results.json and table.md.")] = Path(
        "runs/benchmark_training"
    ),
) -> None:
    """Tokens a second and model FLOPs utilisation of training, on this machine's first device.

    The whole training step of each size, with synthetic sequences: no data is needed. The
    micro-batch is the largest that fits the memory. Without a GPU it measures the CPU.

    Example: db1 bench training 79m 364m 1.2b --minutes 3

    Example: db1 bench training tiny --minutes 0.2 --precision fp32
    """
    from db1.benchmarks.sizes import TABLE_FILE, bench_sizes

    words = sizes or []
    settings = [word for word in words if "=" in word]
    content = bench_sizes(
        [word for word in words if "=" not in word] or ["79m", "364m", "1.2b"],
        minutes=minutes,
        out=out,
        precision=precision,
        overrides=settings,
        tell=lambda text: typer.echo(text, err=True),
    )
    typer.echo((out / TABLE_FILE).read_text(encoding="utf-8"))
    typer.echo(f"files: {out}", err=True)
    if content["failures"]:
        raise typer.Exit(1)


@app.command("eval", cls=Verb)
@from_dataclasses
def bench_eval(
    run: Run,
    settings: Annotated[Given, Of(evaluation.EvaluationBenchmark)],
    json_file: JsonFile = None,
) -> None:
    """The evaluation of many tasks in lockstep against one episode at a time.

    The naive evaluations play one episode at a time in one process, score all ids, and run the
    tokens that the next one can depend on again for each token (recomputed), or project the hidden
    states of the memory again (hidden states: the released way). All play the same seeds with the
    same prompts; their returns are compared. `db1 collect --config configs/db1_small.yaml` and
    `db1 train configs/db1_small.yaml` make a run with 42 tasks for it.

    Example: db1 bench eval runs/db1_small --json eval.json

    Example: db1 bench eval runs/db1_tiny --suite tsp --episodes 4
    """
    benchmark = evaluation.EvaluationBenchmark(run=run, **settings)
    with task_bars(Console(stderr=True)) as progress:
        comparison = evaluation.run(benchmark, progress)
    show([comparison], json_file)


def show(comparisons: Sequence[Comparison], json_file: Path | None) -> None:
    """Prints comparisons as tables; with a file, writes all figures there as JSON."""
    console = Console()
    for comparison in comparisons:
        console.print(_table(comparison))
        for name, value in comparison.notes.items():
            console.print(f"  {name}: {_figure(value)}", highlight=False)
    if json_file is not None:
        content = {"machine": machine(), "comparisons": [c.to_dict() for c in comparisons]}
        atomic_write_text(json_file, json.dumps(content, indent=1) + "\n")
        console.print(f"figures: {json_file}", highlight=False)


def _table(comparison: Comparison) -> Table:
    unit = comparison.unit
    table = Table(
        "", f"ms a {unit}", f"{unit}s a second", "db1 is faster by", title=comparison.work
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for timing in comparison.timings:
        ratio = "" if timing.name == "db1" else f"{comparison.ratio(timing.name):.2f} x"
        per_second = f"{1 / timing.median:,.1f}"
        table.add_row(timing.name, f"{timing.median * 1e3:,.4g}", per_second, ratio)
    return table


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


APPS = {"bench": app}
