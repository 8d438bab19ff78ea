"""The verb `db1 eval`: a run acts in its tasks and is scored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from db1.checkpoint.hub import results_folder
from db1.cli.console import Console
from db1.cli.device import checked_device
from db1.cli.model_argument import Run, Weights
from db1.cli.options import Given, Of, from_dataclasses
from db1.cli.progress import EvaluationBars
from db1.cli.scores import print_scores, score_line
from db1.evaluation.controls import check_controls, evaluate_controls, plan_controls
from db1.evaluation.evaluate import TaskProgress, TaskResult, evaluate
from db1.evaluation.execution import EvaluationData, ExecutionConfig, TaskSelection
from db1.evaluation.ranks import join_ranks
from db1.evaluation.settings import EvaluationConfig, preset
from db1.options import option


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Options of the verb beside those of the evaluation itself."""

    preset: str = option(
        "default", "Settings to start from: default, released (DB1's) or publication."
    )
    out: Path | None = option(None, "Folder for the results.")
    overwrite: bool = option(
        False, "Overwrite results of another evaluation in --out.", two_way=True
    )
    log: bool = option(False, "Print one line per task instead of progress bars.")
    controls: str = option(
        "",
        "Play these, too, and set them beside the scores: retrieval (the nearest demonstrations), "
        "random, no-prompt, no-instruction, no-memory, random-weights; commas between.",
    )


@from_dataclasses
def eval_(
    run: Run,
    selection: TaskSelection,
    settings: Annotated[Given, Of(EvaluationConfig)],
    data: EvaluationData,
    execution: ExecutionConfig,
    weights: Annotated[Weights, Of(Weights, "checkpoint")],
    wanted: EvalOptions,
) -> None:
    """Lets a model act in its tasks on unseen seeds and scores it between random and expert.

    Finished tasks are kept: the same command resumes. A simulator that crashes or hangs costs its
    task only. Under a launcher the tasks are shared by its processes:
    deepspeed --no_local_rank --module db1 eval RUN ...

    Example: db1 eval runs/db1_tiny --suite tsp --episodes 50 --out runs/db1_tiny/tsp

    Example: db1 eval runs/db1_tiny --controls retrieval,random,no-instruction

    Example: db1 eval runs/db1_tiny --memory 0 --out runs/db1_tiny/blind

    Example: db1 eval runs/db1_tiny --policy retrieval --out runs/db1_tiny/retrieval

    Example: db1 eval released --preset released --data demonstrations --out results

    Example: db1 eval runs/big --split ml45-test --data data/ml45 --out runs/big/unseen

    Example: db1 eval runs/big --reference db1 --allow-version-mismatch --out runs/big/as_db1
    """
    out = wanted.out or results_folder(run) / "evaluation"
    checked_device(execution.device)
    config, names = preset(wanted.preset, **settings), check_controls(wanted.controls)
    names = plan_controls(run, config, names, selection=selection, data=data)
    with join_ranks() as ranks, _shown(wanted.log or not ranks.is_alone, len(names)) as shown:
        play = partial(
            evaluate,
            run,
            selection=selection,
            data=data,
            execution=execution.shared(ranks.place.world_size),
            checkpoint=weights.checkpoint,
            overwrite=wanted.overwrite,
            ranks=ranks,
            on_result=shown.on_result,
            progress=shown.progress,
        )
        results = play(config, out=out, on_plan=shown.on_plan)
        if names:
            results = evaluate_controls(
                play,
                config,
                names,
                out,
                ranks=ranks,
                progress=shown.progress,
                on_result=shown.on_result,
            )
    if ranks.is_first:
        _print_results(results, out, with_table=not wanted.log)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Callbacks of an evaluation that show its progress; see `evaluate`."""

    progress: TaskProgress | None = None
    on_result: TaskResult | None = None
    on_plan: Callable[[Sequence[str]], None] | None = None


def _print_results(results: Mapping[str, Any], out: Path, *, with_table: bool) -> None:
    """The scores, the headline, where the results are, and what failed; then status 1."""
    from db1.report import headline

    if with_table:
        print_scores(Console(), results)
    typer.echo(headline(results))
    typer.echo(f"results: {out / 'results.json'}")
    for name, reason in results["failures"].items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if results["failures"]:
        raise typer.Exit(1)


@contextmanager
def _shown(is_plain: bool, num_controls: int) -> Iterator[_Shown]:
    """Bars and one line a task; lines of the released script's kind instead."""
    if is_plain:
        yield _Shown(on_result=_print_result)
        return
    with EvaluationBars(Console()) as bars:

        def plan(tasks: Sequence[str]) -> None:
            bars.plan(tasks, rounds=1 + num_controls)

        def finish(task: str, entry: Mapping[str, Any] | None, why: str | None) -> None:
            bars.finish(task, score_line(task, entry, why))

        yield _Shown(progress=bars.report, on_result=finish, on_plan=plan)


def _print_result(task: str, entry: Mapping[str, Any] | None, why: str | None) -> None:
    """One line of results.output, at once."""
    if entry is None:
        typer.echo(f"Environment {task} failed: {why}")
        return
    count = len(entry["returns"])
    line = (
        f"Environment {task} test results: return: {sum(entry['returns']) / count:.6g}, "
        f"length: {sum(entry['lengths']) / count:.6g}, episodes: {count}"
    )
    if entry["normalised"] is not None:
        low, high = entry["interval"]
        line += f", normalised: {entry['normalised']:.4f} ({low:.4f} .. {high:.4f})"
    typer.echo(line)
    sys.stdout.flush()


VERBS = {"eval": eval_}
