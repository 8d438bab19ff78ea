"""Collects what a command or an experiment asks for, with progress and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from db1.cli.progress import task_bars
from db1.errors import DataError
from db1.experts.collect import CollectRequest, CollectSummary, collect_many
from db1.sources.text import TextSummary, prepare_text
from db1.tokens.text import TextTokenizer


def collect_config(path: Path, *, processes: int, reference_episodes: int) -> None:
    """Makes the text stores and demonstrations of an experiment's `data` section."""
    from db1.training.experiment import load_experiment

    config = load_experiment(path)
    data = config.data
    given = TextTokenizer.load(data.tokenizer) if data.tokenizer else None
    for name, text in data.text.items():
        summary = prepare_text(
            text.source,
            data.text_folder(name),
            vocabulary_text_size=config.vocabulary.text_size,
            tokenizer=given,
        )
        given = given or TextTokenizer.load(data.text_folder(name))
        Console().print(describe_text(name, summary), soft_wrap=True)
    requests = {
        task: CollectRequest(
            episodes=t.episodes, action_noise=t.action_noise, max_steps=t.max_steps
        )
        for task, t in data.tasks.items()
    }
    collect_tasks(requests, data.root, processes=processes, reference_episodes=reference_episodes)


def describe_text(name: str, summary: TextSummary) -> str:
    """One line about a corpus."""
    return (
        f"text {name}: {summary.num_train_tokens:,} training and {summary.num_heldout_tokens:,} "
        f"held-out tokens of {summary.text_size:,} ids, from {summary.source}"
    )


def collect_tasks(
    requests: Mapping[str, CollectRequest],
    out: Path,
    *,
    processes: int,
    reference_episodes: int,
) -> None:
    """Collects demonstrations of several tasks at once.

    Args:
        requests: What is wanted, by task id.
        out: Folder of the stores.
        processes: Tasks at once.
        reference_episodes: Episodes of the random and expert references.

    Raises:
        DataError: After all tasks were tried, when some failed; names them.
    """
    from db1.suites import parse_task_id

    for task in requests:
        suite, task_name = parse_task_id(task)
        suite.require(task_name)
    console = Console()
    with task_bars(console) as report:
        for task, request in requests.items():
            report(task, 0, request.episodes)
        summaries, failures = collect_many(
            requests,
            out,
            processes=processes,
            reference_episodes=reference_episodes,
            progress=lambda task, done: report(task, done, requests[task].episodes),
        )
    _print_summaries(summaries, console)
    if failures:
        lines = "; ".join(f"{task}: {reason}" for task, reason in failures.items())
        raise DataError(f"{len(failures)} of {len(requests)} tasks failed: {lines}")


def _print_summaries(summaries: Sequence[CollectSummary], console: Console) -> None:
    """One row a task; `return` is of the stored stretches, expert and random of whole episodes."""
    table = Table(Column("task", no_wrap=True))
    for title in ("episodes", "steps", "success", "return", "expert", "random"):
        table.add_column(title, justify="right", no_wrap=True)
    for s in summaries:
        success = "-" if s.success_rate is None else f"{s.success_rate:.2f}"
        returns = (s.mean_return, s.expert_return, s.random_return)
        shown = (f"{value:.4g}" for value in returns)
        table.add_row(s.task, str(s.episodes), str(s.steps), success, *shown)
    Console(width=max(console.width, 110)).print(table)
