"""Collects what a command or an experiment asks for, with progress and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from db1.cli.console import Console
from db1.cli.importing import import_context
from db1.cli.layout import fit_names, name_width, narrow_table
from db1.cli.progress import running_bars, task_bars
from db1.collection import CollectExecution, CollectRequest, CollectSummary, collect_many
from db1.collection.many import TWO_AT_ONCE
from db1.data.config import DataConfig
from db1.data.instruction_tokenizer import train_instruction_tokenizer
from db1.data.pair_tokenizer import train_pair_tokenizer
from db1.errors import ConfigError, DataError
from db1.importers import IMPORTERS
from db1.importers.text import TextSummary, prepare_text
from db1.processes.claims import Claims
from db1.suites import parse_task_id
from db1.suites.listing import choose_tasks, task_rows
from db1.suites.plugins import load_plugins
from db1.tokens.text import TextTokenizer

MAX_BARS = 20
"""With more tasks than these only the running ones have a progress bar."""


def collect_config(
    path: Path,
    root: Path | None = None,
    execution: CollectExecution = TWO_AT_ONCE,
    *,
    reference_episodes: int = 20,
) -> None:
    """Makes the stores of text, images with texts and demonstrations of an experiment.

    Args:
        path: Its YAML file.
        root: Folder of the stores; None: the experiment's `data.root`.
        execution: How many tasks at once, and how long an episode may take.
        reference_episodes: Episodes that measure the random and expert returns.
    """
    from db1.training.experiment import load_experiment

    config = load_experiment(path, [f"data.root={root}"] if root else [])
    load_plugins(config.plugins)
    data = config.data
    given = TextTokenizer.load(data.tokenizer) if data.tokenizer else None
    claims = Claims.inside(Path(data.root))
    for name, text in data.text.items():
        with claims.wait(f"text/{name}"):
            summary = prepare_text(
                text.source,
                data.text_folder(name),
                vocabulary_text_size=config.vocabulary.text_size,
                tokenizer=given,
            )
        given = given or TextTokenizer.load(data.text_folder(name))
        Console().print(describe_text(name, summary), soft_wrap=True)
    for name, pairs in data.pairs.items():
        if pairs.source:
            with claims.wait(f"pairs/{name}"):
                import_set(pairs.source, data.pairs_folder(name))
    if data.pairs and not data.text and given is None:
        with claims.wait("tokenizer"):
            _train_pair_tokenizer(data, config.vocabulary.text_size)
    requests = {
        task: CollectRequest(
            episodes=t.episodes,
            action_noise=t.action_noise,
            max_steps=t.max_steps,
            reference_episodes=reference_episodes,
        )
        for task, t in data.named_tasks().items()
    }
    for task in requests:
        suite, task_name = parse_task_id(task)
        suite.require(task_name)
    collect_tasks(requests, data.root, execution)
    if config.sequence.instruction and not (data.text or data.pairs or given):
        with claims.wait("tokenizer"):
            _train_instruction_tokenizer(data, config.vocabulary.text_size)


def _train_instruction_tokenizer(data: DataConfig, text_size: int) -> None:
    """Makes the tokenizer of a mixture that has instructions and neither text nor pairs."""
    tokenizer = train_instruction_tokenizer(data, text_size)
    tokenizer.save(data.instruction_tokenizer_path)
    Console().print(
        f"tokenizer of {tokenizer.size:,} ids from the tasks' words: "
        f"{data.instruction_tokenizer_path}",
        soft_wrap=True,
    )


def _train_pair_tokenizer(data: DataConfig, text_size: int) -> None:
    """Makes the tokenizer of a mixture that has pairs and no corpus."""
    tokenizer = train_pair_tokenizer(data, text_size)
    tokenizer.save(data.pair_tokenizer_path)
    Console().print(
        f"tokenizer of {tokenizer.size:,} ids from the texts of the pairs: "
        f"{data.pair_tokenizer_path}",
        soft_wrap=True,
    )


def import_set(source: str, out: Path) -> None:
    """Imports a set of images with texts unless it is stored.

    Args:
        source: `kind` of a set that a package brings, or `kind:path`.
        out: Folder of the set's stores.

    Raises:
        ConfigError: For an unknown kind.
    """
    kind, _, path = source.partition(":")
    importer = IMPORTERS[kind]
    console = Console()
    with task_bars(console) as report:
        context = import_context(lambda name, done, total: report(name, done, total or 0))
        summary = importer.run(path or "installed", out, importer.options(), context)
    for line in summary.lines():
        console.print(line, soft_wrap=True)


def describe_text(name: str, summary: TextSummary) -> str:
    """One line about a corpus."""
    return (
        f"text {name}: {summary.num_train_tokens:,} training and {summary.num_heldout_tokens:,} "
        f"held-out tokens of {summary.text_size:,} ids, from {summary.source}"
    )


def chosen_requests(
    tasks: Sequence[str], suites: Sequence[str], request: CollectRequest, console: Console
) -> dict[str, CollectRequest]:
    """The tasks named, and of the suites named all those with an expert that run here.

    Raises:
        ConfigError: For an unknown task or suite, or when nothing is left.
    """
    chosen = choose_tasks(tasks, ()) if tasks else []
    for name in suites:
        listed = task_rows([name])
        usable = [row.id for row in listed if row.expert is not None and row.reason is None]
        chosen += usable
        console.print(f"{name}: {len(usable)} of {len(listed)} tasks have an expert and run here")
        for reason in sorted({row.reason for row in listed if row.reason is not None})[:1]:
            console.print(f"{name}: some tasks do not run here: {reason}", soft_wrap=True)
    if not chosen:
        raise ConfigError(
            f"no task of {', '.join(suites)} has an expert and runs here; see `db1 tasks --suite "
            f"{suites[0]}`"
        )
    return dict.fromkeys(chosen, request)


def collect_tasks(
    requests: Mapping[str, CollectRequest], out: Path, execution: CollectExecution
) -> None:
    """Collects demonstrations of several tasks at once.

    Args:
        requests: What is wanted, by task id.
        out: Folder of the stores.
        execution: How many tasks at once, and how long an episode may take.

    Raises:
        ConfigError: For an unknown task; nothing is collected then.
        DataError: After all tasks were tried, when some failed or do not run here; names them.
    """
    absent = {}
    for task in requests:
        suite, task_name = parse_task_id(task)
        if (reason := suite.task_missing(task_name)) is not None:
            absent[task] = reason
    present = {task: request for task, request in requests.items() if task not in absent}
    console = Console()
    many = len(present) > MAX_BARS
    with running_bars(console, len(present)) if many else task_bars(console) as report:
        for task, request in () if many else present.items():
            report(task, 0, request.episodes)
        summaries, failures = collect_many(
            present,
            out,
            execution,
            progress=lambda task, done: report(task, done, requests[task].episodes),
        )
    if summaries:
        _print_summaries(summaries, requests, console)
    failures |= absent
    if failures:
        lines = "; ".join(f"{task}: {_without(task, why)}" for task, why in failures.items())
        raise DataError(f"{len(failures)} of {len(requests)} tasks failed: {lines}")


def _without(task: str, reason: str) -> str:
    """A reason without the task's name in front, which is said already."""
    return reason.removeprefix(f"{task}: ")


def _print_summaries(
    summaries: Sequence[CollectSummary],
    requests: Mapping[str, CollectRequest],
    console: Console,
) -> None:
    """One row a task: the stored episodes' return beside those of the references.

    Stored episodes have the noise that was asked for; `score` is 0 % for random actions and 100 %
    for the expert. Episodes that are cut off have none: references never are.
    """
    heads = ("episodes", "success", "return", "random", "expert", "score")
    rows = {s.task: _summary_cells(s, is_cut(s.task, requests[s.task])) for s in summaries}
    columns = [[head, *(row[i] for row in rows.values())] for i, head in enumerate(heads)]
    table = narrow_table("task", *heads)
    names = fit_names(list(rows), name_width(console.width, columns))
    for name, cells in zip(names, rows.values(), strict=True):
        table.add_row(name, *cells)
    console.print(table, highlight=False)
    if any(is_cut(s.task, requests[s.task]) for s in summaries):
        console.print(
            "cut: demonstrations end after max_steps, so their return is not one to score "
            "(random and expert are of whole episodes)",
            soft_wrap=True,
        )
    for line in summary_lines(summaries):
        console.print(line, soft_wrap=True)


def _summary_cells(s: CollectSummary, cut: bool) -> list[str]:
    success = "-" if s.success_rate is None else f"{s.success_rate:.2f}"
    returns = (s.mean_return, s.random_return, s.expert_return)
    span = s.expert_return - s.random_return
    score = f"{100 * (s.mean_return - s.random_return) / span:.0f} %" if span else "-"
    return [
        str(s.episodes),
        success,
        *(f"{value:.4g}" for value in returns),
        "cut" if cut else score,
    ]


def is_cut(task: str, request: CollectRequest) -> bool:
    """Tells whether demonstrations may end before the task does, which lowers their return."""
    if request.max_steps is None:
        return False
    suite, name = parse_task_id(task)
    horizon = suite.horizon(name)
    return horizon is None or request.max_steps < horizon


def summary_lines(summaries: Sequence[CollectSummary]) -> list[str]:
    """One line a suite: its tasks, episodes and mean success; and the seeds that were left out."""
    lines = []
    suites = dict.fromkeys(s.task.partition("/")[0] for s in summaries)
    for suite in suites:
        own = [s for s in summaries if s.task.startswith(f"{suite}/")]
        line = f"{suite}: {len(own)} tasks, {sum(s.episodes for s in own)} episodes"
        rates = [s.success_rate for s in own if s.success_rate is not None]
        if rates:
            worst = min(own, key=lambda s: 1.0 if s.success_rate is None else s.success_rate)
            line += f"; mean success {sum(rates) / len(rates):.3f} of {len(rates)} tasks"
            line += f", least {worst.success_rate:.2f} in {worst.task}" if min(rates) < 1 else ""
        left_out = {s.task: len(s.given_up) for s in own if s.given_up}
        named = ", ".join(f"{task} {count}" for task, count in left_out.items())
        lines.append(line + (f"; seeds left out now: {named}" if named else ""))
    return lines
