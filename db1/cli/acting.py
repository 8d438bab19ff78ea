"""The verb `db1 eval`: a run acts in its tasks and is scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from db1.checkpoint.hub import results_folder
from db1.cli import acting_options as options
from db1.cli.console import Console
from db1.cli.device import checked_device
from db1.cli.model_argument import Run
from db1.cli.progress import task_bars
from db1.splits import tasks_of_splits

if TYPE_CHECKING:
    from db1.evaluation.evaluate import TaskProgress
    from db1.evaluation.running import Machine
    from db1.evaluation.settings import EvaluationConfig

_PAIR_OPTIONS = (
    "pairs", "pair_split", "max_captions", "max_questions", "beams", "closed_answers", "vqa_mode",
    "caption_tokenizer", "java",
)  # fmt: skip


def eval_(
    context: typer.Context,
    run: Run,
    task: options.Task = None,
    suite: options.Suite = None,
    split: options.Split = None,
    preset: options.Preset = "default",
    episodes: options.Episodes = 20,
    first_episode: options.FirstEpisode = 0,
    max_steps: options.MaxSteps = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    prompt: options.Prompt = None,
    prompt_rule: options.PromptRule = "top",
    prompt_strategy: options.PromptStrategy = "moving",
    prompt_part: options.PromptPart = "start",
    prompt_fill: options.PromptFill = False,
    prompt_tokens: options.PromptTokens = None,
    num_prompts: options.NumPrompts = 16,
    memory: options.Memory = None,
    instruction: options.Instruction = None,
    policy: options.Policy = "model",
    sample: options.Sample = False,
    temperature: options.Temperature = 1.0,
    seed: options.Seed = 0,
    precision: options.Precision = "float32",
    random_weights: options.RandomWeights = False,
    checkpoint: options.Checkpoint = None,
    text: options.Text = True,
    text_memory: options.TextMemory = None,
    max_text_tokens: options.MaxTextTokens = None,
    pairs: options.Pairs = True,
    pair_split: options.PairSplit = None,
    max_captions: options.MaxCaptions = None,
    max_questions: options.MaxQuestions = None,
    beams: options.Beams = 3,
    closed_answers: options.ClosedAnswers = 0,
    vqa_mode: options.VqaMode = "official",
    caption_tokenizer: options.CaptionTokenizer = "auto",
    java: options.Java = True,
    data: options.Data = None,
    num_environments: options.NumEnvironments = 64,
    workers: options.Workers = None,
    lanes: options.Lanes = None,
    timeout: options.Timeout = 300.0,
    threads: options.Threads = None,
    device: options.Device = None,
    log: options.Log = False,
    allow_version_mismatch: options.AllowVersionMismatch = False,
    allow_missing_reference: options.AllowMissingReference = False,
    allow_missing_prompt: options.AllowMissingPrompt = False,
    reference: options.Reference = None,
    scores: options.Scores = None,
) -> None:
    """Lets a model act in its tasks on unseen seeds and scores it between random and expert.

    Finished tasks are kept: the same command resumes. A simulator that crashes or hangs costs its
    task only. Under a launcher the tasks are shared by its processes:
    deepspeed --no_local_rank --module db1 eval RUN ...

    Example: db1 eval runs/db1_tiny --suite tsp --episodes 50 --out runs/db1_tiny/tsp

    Example: db1 eval runs/db1_tiny --no-prompt --memory 0 --out runs/db1_tiny/blind

    Example: db1 eval runs/db1_tiny --policy retrieval --out runs/db1_tiny/retrieval

    Example: db1 eval released --preset released --data demonstrations --out results

    Example: db1 eval runs/big --split ml45-test --data data/ml45 --out runs/big/unseen

    Example: db1 eval runs/big --reference db1 --allow-version-mismatch --out runs/big/as_db1
    """
    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.ranks import join_ranks
    from db1.metrics.pair_scoring import PairScoring
    from db1.report import headline

    scoring = PairScoring(
        split=pair_split,
        max_captions=max_captions,
        max_questions=max_questions,
        beams=beams,
        closed_answers=closed_answers,
        vqa_mode=vqa_mode,
        tokenizer=caption_tokenizer,
        java=java,
    )
    given = {
        "episodes": episodes,
        "first_episode": first_episode,
        "max_steps": max_steps,
        "policy": policy,
        "prompt": prompt,
        "prompt_rule": prompt_rule,
        "prompt_strategy": prompt_strategy,
        "prompt_part": prompt_part,
        "prompt_fill": prompt_fill,
        "prompt_tokens": prompt_tokens,
        "num_prompts": num_prompts,
        "memory_length": memory,
        "instruction": instruction,
        "greedy": not sample,
        "temperature": temperature,
        "seed": seed,
        "precision": precision,
        "random_weights": random_weights,
        "text": text,
        "text_memory_length": text_memory,
        "max_text_tokens": max_text_tokens,
        "pairs": scoring if pairs else None,
        "reference": reference,
    }
    config = _preset(context, preset, given)
    out = out or results_folder(run) / "evaluation"
    with join_ranks() as ranks, _progress(log or not ranks.is_alone) as progress:
        results = evaluate(
            run,
            config,
            out=out,
            tasks=[*(task or ()), *tasks_of_splits(split)] if split else task,
            suites=suite,
            checkpoint=checkpoint,
            data=data,
            overwrite=overwrite,
            allow_version_mismatch=allow_version_mismatch,
            allow_missing_reference=allow_missing_reference,
            allow_missing_prompt=allow_missing_prompt,
            scores=scores,
            num_environments=num_environments,
            machine=_machine(workers, lanes, timeout, threads, ranks.place.world_size),
            ranks=ranks,
            device=checked_device(device),
            progress=progress,
            on_result=_print_result if log else None,
        )
    if not ranks.is_first:
        return
    typer.echo(headline(results))
    typer.echo(f"results: {out / 'results.json'}")
    for name, reason in results["failures"].items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if results["failures"]:
        raise typer.Exit(1)


def _preset(context: typer.Context, name: str, given: Mapping[str, Any]) -> EvaluationConfig:
    """The preset's settings, but for the options that were given on the command line."""
    from db1.evaluation.settings import preset

    options = {
        "memory_length": ("memory",),
        "greedy": ("sample",),
        "text_memory_length": ("text_memory",),
        "pairs": _PAIR_OPTIONS,
    }

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)  # typer's enum or click's: the name tells
        return getattr(source, "name", "DEFAULT") != "DEFAULT"

    explicit = {
        field: value
        for field, value in given.items()
        if any(is_given(option) for option in options.get(field, (field,)))
    }
    return preset(name, **explicit)


def _machine(
    workers: int | None, lanes: int | None, timeout: float, threads: int | None, num_ranks: int
) -> Machine:
    """What one of `num_ranks` processes may use of this machine."""
    from db1.evaluation.running import Machine
    from db1.runtime import usable_cores

    share = max(1, usable_cores() // num_ranks)
    machine = Machine(workers=share if workers is None else workers, timeout=timeout, lanes=lanes)
    return replace(machine, threads=threads or max(1, share // machine.num_lanes))


@contextmanager
def _progress(is_quiet: bool) -> Iterator[TaskProgress | None]:
    if is_quiet:
        yield None
        return
    with task_bars(Console()) as progress:
        yield progress


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
