"""Verbs about a trained run: `db1 eval`, `db1 report`, `db1 generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from db1.cli.device import checked_device
from db1.cli.progress import task_bars
from db1.cli.writing import generate

_MEMORY, _POLICY, _TEXT = "Prompt and memory", "Policy", "Held-out text"
_MACHINE, _REFERENCE = "Data and machine", "Reference returns"


def eval_(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks (repeatable).")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only these suites.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes a task.", min=1)] = 20,
    first_episode: Annotated[
        int, typer.Option(help="Number of the first evaluation seed.", min=0)
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace other results in --out.")] = False,
    prompt: Annotated[
        bool, typer.Option(help="Prime the memory with a demonstration.", rich_help_panel=_MEMORY)
    ] = True,
    prompt_part: Annotated[
        str, typer.Option(help="start or end of the demonstration.", rich_help_panel=_MEMORY)
    ] = "start",
    prompt_tokens: Annotated[
        int | None,
        typer.Option(
            help="Its tokens that are used; default: the memory.", min=0, rich_help_panel=_MEMORY
        ),
    ] = None,
    num_prompts: Annotated[
        int, typer.Option(help="Demonstrations taken in turn.", min=1, rich_help_panel=_MEMORY)
    ] = 16,
    memory: Annotated[
        int | None,
        typer.Option(
            help="Tokens a step looks back on; default: as trained.",
            min=0,
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="model, random or expert.", rich_help_panel=_POLICY)
    ] = "model",
    sample: Annotated[
        bool, typer.Option(help="Sample actions; default: the best.", rich_help_panel=_POLICY)
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of sampling.", rich_help_panel=_POLICY)] = 1.0,
    seed: Annotated[
        int,
        typer.Option(help="Of sampling, random policy and weights.", rich_help_panel=_POLICY),
    ] = 0,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Fresh weights: the control experiment.",
            rich_help_panel=_POLICY,
        ),
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option(help="Tag; default: the newest.", rich_help_panel=_POLICY)
    ] = None,
    text: Annotated[
        bool, typer.Option(help="Score the run's held-out text.", rich_help_panel=_TEXT)
    ] = True,
    text_memory: Annotated[
        int | None,
        typer.Option(
            help="Tokens carried between windows; default: as trained.",
            min=0,
            rich_help_panel=_TEXT,
        ),
    ] = None,
    max_text_tokens: Annotated[
        int | None,
        typer.Option(help="Of each corpus; default: all.", min=2, rich_help_panel=_TEXT),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of demonstrations and references; default: the run's.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    num_environments: Annotated[
        int, typer.Option(help="The most episodes at once.", min=1, rich_help_panel=_MACHINE)
    ] = 16,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1; default: a GPU.", rich_help_panel=_MACHINE),
    ] = None,
    allow_version_mismatch: Annotated[
        bool,
        typer.Option(
            help="Accept references of another environment version.", rich_help_panel=_REFERENCE
        ),
    ] = False,
    allow_missing_reference: Annotated[
        bool,
        typer.Option(
            help="Report raw returns of tasks without a reference.", rich_help_panel=_REFERENCE
        ),
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            help="store, measured, db1, jat, d4rl, atari-human, or none for raw returns; default: "
            "the demonstrations' own, else measured.",
            rich_help_panel=_REFERENCE,
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Folder of `db1 tasks measure`.", rich_help_panel=_REFERENCE),
    ] = None,
) -> None:
    """Lets a run act in its tasks on unseen seeds and scores it between random and expert.

    Finished tasks are kept: the same command resumes.

    Example: db1 eval runs/db1_tiny --suite tsp --episodes 50 --out runs/db1_tiny/tsp

    Example: db1 eval runs/db1_tiny --no-prompt --memory 0 --out runs/db1_tiny/blind

    Example: db1 eval runs/big --reference db1 --allow-version-mismatch --out runs/big/as_db1
    """
    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.report import headline
    from db1.evaluation.settings import EvaluationConfig

    config = EvaluationConfig(
        episodes=episodes,
        first_episode=first_episode,
        policy=policy,
        prompt=prompt,
        prompt_part=prompt_part,
        prompt_tokens=prompt_tokens,
        num_prompts=num_prompts,
        memory_length=memory,
        greedy=not sample,
        temperature=temperature,
        seed=seed,
        random_weights=random_weights,
        text=text,
        text_memory_length=text_memory,
        max_text_tokens=max_text_tokens,
        reference=reference,
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
            data=data,
            overwrite=overwrite,
            allow_version_mismatch=allow_version_mismatch,
            allow_missing_reference=allow_missing_reference,
            scores=scores,
            num_environments=num_environments,
            device=checked_device(device),
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


VERBS = {"eval": eval_, "report": report, "generate": generate}
