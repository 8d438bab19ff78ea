"""The verb `db1 convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from db1.cli.console import Console
from db1.cli.options import from_dataclasses
from db1.options import option

if TYPE_CHECKING:
    from db1.checkpoint.hub import CardScores


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Options of the verb: the layout and what the source does not say itself."""

    to: str | None = option(
        None, "run, safetensors or released; default: safetensors from a run, else a run."
    )
    tokenizer: Path | None = option(
        None, "tokenizer.json, or a folder that holds it or GPT-2's two files."
    )
    config: Path | None = option(
        None, "YAML whose `model` and `vocabulary` describe a released checkpoint."
    )
    checkpoint: str | None = option(None, "Checkpoint tag of a run; default: the newest.")
    dtype: str | None = option(None, "float32, bfloat16 or float16; default: as stored.")
    results: Path | None = option(
        None,
        "Results folder of `db1 eval`, whose scores and command go on the model's page on the hub.",
    )


@from_dataclasses
def convert(
    source: Annotated[str, typer.Argument(help="Model in any layout, or hf://user/name.")],
    destination: Annotated[str, typer.Argument(help="New folder, or hf://user/name.")],
    wanted: Conversion,
) -> None:
    """Turns a model into another layout; a model is a run folder, a safetensors folder
    (model.safetensors, config.json), or the published DB1 checkpoint.

    The published checkpoint is a pickle; nothing in it is executed. Its tokenizer is taken from a
    folder `tokenizer` or `my_tokenizer` in it or beside it, or from --tokenizer.

    Example: db1 convert db1_870task_checkpoint runs/released --tokenizer my_tokenizer

    Example: db1 convert runs/db1_tiny shared/db1_tiny && db1 convert shared/db1_tiny runs/copy

    Example: db1 convert runs/db1_tiny hf://user/db1_tiny --results runs/db1_tiny/evaluation
    """
    from db1.checkpoint.convert import convert as run
    from db1.cli.progress import task_bars

    console = Console()
    with task_bars(console) as report:
        bundle = run(
            source,
            destination,
            to=wanted.to,
            dtype=wanted.dtype,
            tag=wanted.checkpoint,
            config=wanted.config,
            tokenizer=wanted.tokenizer,
            progress=lambda done, total: report("MB written", done >> 20, total >> 20),
            scores=None if wanted.results is None else _scores(wanted.results),
        )
    weights = bundle.weights or {}
    count = sum(tensor.numel() for tensor in weights.values())
    text = "with its tokenizer" if bundle.tokenizer else "no tokenizer found (give --tokenizer)"
    console.print(
        f"{destination}: {len(weights)} weights, {count:,} numbers, {text}", soft_wrap=True
    )


def _scores(folder: Path) -> CardScores:
    """Scores of results.json by suite, by tasks seen and unseen, and over all tasks."""
    from db1.checkpoint.hub import CardScores
    from db1.evaluation.results import read_results
    from db1.metrics.seen import summarise_seen

    results = read_results(folder)
    summary, provenance = results["summary"], results["provenance"]
    return CardScores(
        groups={**summary["by_suite"], **summarise_seen(results), "all": summary},
        command=provenance.get("command", ["db1"]),
        tag=(provenance.get("checkpoint") or {}).get("tag"),
    )


VERBS = {"convert": convert}
