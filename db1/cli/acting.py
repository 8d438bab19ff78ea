"""Verbs about a trained run: `db1 eval`, `db1 report`, `db1 generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from db1.cli.progress import task_bars
from db1.errors import CheckpointError


def eval_(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks (repeatable).")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only these suites.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes a task.", min=1)] = 20,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    prompt: Annotated[bool, typer.Option(help="Prime the memory with a demonstration.")] = True,
    memory: Annotated[
        int | None, typer.Option(help="Tokens a step looks back on; default: a full window.", min=0)
    ] = None,
    policy: Annotated[str, typer.Option(help="model, random or expert.")] = "model",
    sample: Annotated[bool, typer.Option(help="Sample actions; default: the best one.")] = False,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 1.0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Fresh weights: the control experiment.")
    ] = False,
    checkpoint: Annotated[str | None, typer.Option(help="Tag; default: the newest.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace other results in --out.")] = False,
    allow_version_mismatch: Annotated[
        bool, typer.Option(help="Accept references of another environment version.")
    ] = False,
) -> None:
    """Lets a run act in its tasks on unseen seeds and scores it between random and expert.

    Finished tasks are kept: the same command resumes.

    Example: db1 eval runs/db1_tiny --suite tsp --episodes 50 --out runs/db1_tiny/tsp

    Example: db1 eval runs/db1_tiny --no-prompt --memory 0 --out runs/db1_tiny/blind
    """
    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.report import headline
    from db1.evaluation.settings import EvaluationConfig

    config = EvaluationConfig(
        episodes=episodes,
        prompt=prompt,
        memory_length=memory,
        policy=policy,
        greedy=not sample,
        temperature=temperature,
        random_weights=random_weights,
    )
    out = out or run / "evaluation"
    with task_bars(Console()) as progress:
        results = evaluate(
            run,
            config,
            out=out,
            tasks=task,
            suites=suite,
            checkpoint=checkpoint,
            overwrite=overwrite,
            allow_version_mismatch=allow_version_mismatch,
            progress=progress,
        )
    typer.echo(headline(results))
    typer.echo(f"results: {out / 'results.json'}")
    for name, reason in results["failures"].items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if results["failures"]:
        raise typer.Exit(1)


def report(
    folder: Annotated[Path, typer.Argument(help="A folder with results.json.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
) -> None:
    """Writes report.md and plots from an evaluation, and on demand one HTML page.

    Example: db1 report runs/db1_tiny/evaluation --html report.html
    """
    from db1.evaluation.report import write_report

    typer.echo(f"report: {write_report(folder, html=html)}")
    if html is not None:
        typer.echo(f"page: {html}")


def generate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    prompt: Annotated[str, typer.Option(help="Text to go on from.")],
    tokens: Annotated[int, typer.Option(help="Most tokens to write.", min=1)] = 100,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest.", min=0.0)] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest.", min=1)] = None,
    top_p: Annotated[float | None, typer.Option(help="Only this probability mass.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
) -> None:
    """Writes on from a prompt.

    Example: db1 generate runs/db1_tiny --prompt "In the beginning"
    """
    from db1.policy.decode import DecodeConfig
    from db1.policy.generate import generate as write_on
    from db1.policy.load import load_agent_parts

    loaded = load_agent_parts(run, None)
    if loaded.tokenizer is None:
        raise CheckpointError(f"{run}: the run has no tokenizer, so it never learned text")
    decode = DecodeConfig(
        greedy=temperature == 0, temperature=temperature or 1.0, top_k=top_k, top_p=top_p
    )
    written = write_on(
        loaded.model,
        loaded.vocabulary,
        loaded.tokenizer,
        prompt,
        memory_length=loaded.context_length,
        max_tokens=tokens,
        decode=decode,
        seed=seed,
    )
    typer.echo(prompt + written.text)


VERBS = {"eval": eval_, "report": report, "generate": generate}
