"""The verb `db1 eval`: a run acts in its tasks and is scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from db1.cli.device import checked_device
from db1.cli.progress import task_bars

if TYPE_CHECKING:
    from db1.evaluation.evaluate import TaskProgress
    from db1.evaluation.running import Machine
    from db1.evaluation.settings import EvaluationConfig

_MEMORY, _POLICY, _TEXT = "Prompt and memory", "Policy", "Held-out text"
_PAIRS = "Captions and questions about held-out images"
_PAIR_OPTIONS = (
    "pairs", "pair_split", "max_captions", "max_questions", "beams", "closed_answers", "vqa_mode",
    "caption_tokenizer", "java",
)  # fmt: skip
_MACHINE, _REFERENCE = "Data and machine", "Reference returns"


def eval_(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(help="A run folder, a safetensors folder or the published checkpoint."),
    ],
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks (repeatable).")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only these suites.")] = None,
    preset: Annotated[
        str,
        typer.Option(help="Settings to start from: default, released (DB1's) or publication."),
    ] = "default",
    episodes: Annotated[int, typer.Option(help="Episodes a task.", min=1)] = 20,
    first_episode: Annotated[
        int, typer.Option(help="Number of the first evaluation seed.", min=0)
    ] = 0,
    max_steps: Annotated[
        int | None,
        typer.Option(help="Cut episodes off after these steps; raw returns then.", min=1),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace other results in --out.")] = False,
    prompt: Annotated[
        bool, typer.Option(help="Prime the memory with a demonstration.", rich_help_panel=_MEMORY)
    ] = True,
    prompt_rule: Annotated[
        str,
        typer.Option(
            help="Which one: top (return), sample_peak (drawn from the best tenth) or uniform.",
            rich_help_panel=_MEMORY,
        ),
    ] = "top",
    prompt_strategy: Annotated[
        str,
        typer.Option(
            help="moving: the memory slides over the prompt; fixed: it stays in front.",
            rich_help_panel=_MEMORY,
        ),
    ] = "moving",
    prompt_part: Annotated[
        str, typer.Option(help="start or end of the demonstration.", rich_help_panel=_MEMORY)
    ] = "start",
    prompt_fill: Annotated[
        bool,
        typer.Option(
            help="Put further demonstrations behind a short one.", rich_help_panel=_MEMORY
        ),
    ] = False,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(
            help="Its tokens that are used; default: the memory, half of it when fixed.",
            min=0,
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    num_prompts: Annotated[
        int,
        typer.Option(
            help="Demonstrations that rule top takes in turn.", min=1, rich_help_panel=_MEMORY
        ),
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
        str,
        typer.Option(
            help="model, random, expert, or retrieval (nearest demonstration step).",
            rich_help_panel=_POLICY,
        ),
    ] = "model",
    sample: Annotated[
        bool, typer.Option(help="Sample actions; default: the best.", rich_help_panel=_POLICY)
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of sampling.", rich_help_panel=_POLICY)] = 1.0,
    seed: Annotated[
        int,
        typer.Option(
            help="Of sampling, prompts, random policy and weights.", rich_help_panel=_POLICY
        ),
    ] = 0,
    precision: Annotated[
        str,
        typer.Option(
            help="Of the model: float32, float64, bfloat16 or float16.", rich_help_panel=_POLICY
        ),
    ] = "float32",
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
    pairs: Annotated[
        bool, typer.Option(help="Score captions and answers.", rich_help_panel=_PAIRS)
    ] = True,
    pair_split: Annotated[
        str | None,
        typer.Option(help="Default: test, else what was held out.", rich_help_panel=_PAIRS),
    ] = None,
    max_captions: Annotated[
        int | None,
        typer.Option(help="Images of each set; default: all.", min=1, rich_help_panel=_PAIRS),
    ] = None,
    max_questions: Annotated[
        int | None,
        typer.Option(help="Questions of each set; default: all.", min=1, rich_help_panel=_PAIRS),
    ] = None,
    beams: Annotated[
        int, typer.Option(help="Of captions; 1: greedy.", min=1, rich_help_panel=_PAIRS)
    ] = 3,
    closed_answers: Annotated[
        int,
        typer.Option(
            help="Choose among so many frequent training answers; 0: write freely.",
            min=0,
            rich_help_panel=_PAIRS,
        ),
    ] = 0,
    vqa_mode: Annotated[
        str, typer.Option(help="official or evalai.", rich_help_panel=_PAIRS)
    ] = "official",
    caption_tokenizer: Annotated[
        str,
        typer.Option(help="ptb, plain, or auto: ptb where Java is.", rich_help_panel=_PAIRS),
    ] = "auto",
    java: Annotated[
        bool, typer.Option(help="METEOR and SPICE where they can run.", rich_help_panel=_PAIRS)
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of demonstrations and references; default: the run's.",
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    num_environments: Annotated[
        int,
        typer.Option(help="The most episodes of a task at once.", min=1, rich_help_panel=_MACHINE),
    ] = 64,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes for environments; 0: in this one, unprotected; default: one a core.",
            min=0,
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option(
            help="Tasks at once; default: two where there are two workers.",
            min=1,
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds a worker may be silent before it is killed and its task tried again.",
            rich_help_panel=_MACHINE,
        ),
    ] = 300.0,
    threads: Annotated[
        int | None,
        typer.Option(help="torch threads of each lane.", min=1, rich_help_panel=_MACHINE),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1; default: a GPU.", rich_help_panel=_MACHINE),
    ] = None,
    log: Annotated[
        bool,
        typer.Option("--log", help="One line a task instead of bars.", rich_help_panel=_MACHINE),
    ] = False,
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
    allow_missing_prompt: Annotated[
        bool,
        typer.Option(
            help="Play tasks without demonstrations without a prompt.", rich_help_panel=_REFERENCE
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
    """Lets a model act in its tasks on unseen seeds and scores it between random and expert.

    Finished tasks are kept: the same command resumes. A simulator that crashes or hangs costs its
    task only. Under a launcher the tasks are shared by its processes:
    deepspeed --no_local_rank --module db1 eval RUN ...

    Example: db1 eval runs/db1_tiny --suite tsp --episodes 50 --out runs/db1_tiny/tsp

    Example: db1 eval runs/db1_tiny --no-prompt --memory 0 --out runs/db1_tiny/blind

    Example: db1 eval runs/db1_tiny --policy retrieval --out runs/db1_tiny/retrieval

    Example: db1 eval released --preset released --data demonstrations --out results

    Example: db1 eval runs/big --reference db1 --allow-version-mismatch --out runs/big/as_db1
    """
    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.pair_scoring import PairScoring
    from db1.evaluation.ranks import join_ranks
    from db1.evaluation.report import headline

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
    out = out or run / "evaluation"
    ranks = join_ranks()
    with _progress(log or not ranks.is_alone) as progress:
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
