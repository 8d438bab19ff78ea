"""The verb `db1 inspect`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from db1.cli.console import Console
from db1.cli.options import from_dataclasses
from db1.cli.outputs import PAGE
from db1.errors import ConfigError, DataError
from db1.options import option
from db1.ranges import Checked, Natural

if TYPE_CHECKING:
    from db1.inspection.render_report import Document
    from db1.inspection.runs import RunData

SUFFIXES = (".yaml", ".yml")
CONFIG_FILE = "config.yaml"
TABLE_WIDTH = 160
"""Columns that the widest tables want."""


@dataclass(frozen=True, kw_only=True)
class Inspection(Checked):
    """Options of the verb: a sequence or samples of all, what is checked, where it is written."""

    step: Natural | None = option(None, "Show one sequence of this training step.")
    slot: Natural | None = option(None, "Which sequence of the step's batch.")
    full: bool = option(False, "Print one row per token.")
    samples: Natural = option(16, "Sequences drawn from each dataset for the overview.")
    as_json: str | None = option(
        None,
        "Write everything as JSON; - prints it.",
        name="json",
        metavar="FILE",
        writes=(".json",),
    )
    html: Path | None = option(
        None, "Write a page that works offline.", metavar="FILE", writes=PAGE
    )
    svg: Path | None = option(
        None,
        "Draw the sequence for a page or a talk, a block per token.",
        metavar="FILE",
        writes=(".svg",),
    )
    verify: bool = option(True, "Check stores against their checksums.", two_way=True)
    environments: bool = option(
        True, "Check stores against the suites' environments, which are built for it.", two_way=True
    )


@from_dataclasses
def inspect(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="An experiment's YAML file or a run folder, then key=value to change it; or "
            "store folders, or folders of stores.",
        ),
    ],
    wanted: Inspection,
) -> None:
    """Shows what a model learns from: a sequence, a mixture, or stores; checks all of it.

    With --step (and --slot) one training sequence, token by token, exactly as the run reads it.
    With an experiment alone its mixture: shares, epochs, and findings. With folders of data their
    checksums, values and returns. Exit status 1 when a finding is an error.

    Example: db1 inspect configs/db1_tiny.yaml --step 10 --slot 3 --html sequence.html

    Example: db1 inspect runs/db1_tiny --samples 64

    Example: db1 inspect data/db1_tiny
    """
    subject, overrides = _split(what)
    wants_sequence = wanted.svg is not None or wanted.step is not None or wanted.slot is not None
    if _is_experiment(subject[0]):
        if len(subject) > 1:
            raise ConfigError(
                f"{subject[1]}: a second path; expected one experiment or run at a time, "
                "or store folders"
            )
        run = _run_data(subject[0], overrides)
        failed = _sequence(run, wanted) if wants_sequence else _overview(run, wanted)
    elif wants_sequence or overrides:
        raise ConfigError(
            f"{subject[0]}: --step, --slot, --svg and key=value need an experiment's YAML file or "
            f"a run folder (one with a {CONFIG_FILE})"
        )
    else:
        failed = _stores(subject, wanted)
    if failed:
        raise typer.Exit(1)


def _split(what: list[str]) -> tuple[list[Path], list[str]]:
    """Paths, and what looks like key=value and is no path."""
    is_override = ["=" in word and not Path(word).exists() for word in what]
    paths = [Path(w) for w, other in zip(what, is_override, strict=True) if not other]
    if not paths:
        raise ConfigError("inspect: give an experiment's YAML file, a run folder or store folders")
    return paths, [w for w, other in zip(what, is_override, strict=True) if other]


def _is_experiment(path: Path) -> bool:
    if path.is_dir():
        return (path / CONFIG_FILE).is_file()
    if path.suffix in SUFFIXES or path.is_file():
        return True
    raise DataError(f"{path}: no such file or folder")


def _run_data(path: Path, overrides: list[str]) -> RunData:
    from db1.checkpoint.bundle import run_data_root
    from db1.config import load_yaml
    from db1.data.schedule import MixtureSchedule
    from db1.inspection.runs import RunData
    from db1.tokens.vocabulary import Vocabulary
    from db1.training.experiment import load_experiment

    if path.is_dir():
        given = load_yaml(path / CONFIG_FILE, is_own=False)
        root = run_data_root(path, given)
        if root is not None and str(root) != given["data"]["root"]:
            overrides = [f"data.root={root}", *overrides]
    is_run = path.is_dir()
    config = load_experiment(path / CONFIG_FILE if is_run else path, overrides, is_own=not is_run)
    schedule = MixtureSchedule.load(path if path.is_dir() else config.run_folder)
    if not path.is_dir() and schedule is not None and len(schedule.phases) > 1:
        typer.echo(
            f"note: {config.run_folder} changed its weights on the way; this is what a new run of "
            f"{path} would read, `db1 inspect {config.run_folder}` shows the old one",
            err=True,
        )
    return RunData(
        name=config.name,
        data=config.data,
        sequence=config.sequence,
        vocabulary=Vocabulary(config.vocabulary),
        seed=config.training.seed,
        num_steps=config.training.num_steps,
        batch_size=config.training.global_batch_size,
        schedule=schedule if path.is_dir() else None,
        num_positions=config.model.num_local_positions,
        patches=config.model.patches,
    )


def _sequence(run: RunData, wanted: Inspection) -> bool:
    from db1.inspection.findings import has_error
    from db1.inspection.render_html import sequence_page
    from db1.inspection.render_report import show_findings
    from db1.inspection.render_svg import sequence_svg
    from db1.inspection.render_text import show_sequence

    step, slot = wanted.step or 0, wanted.slot or 0
    description, findings = run.describe(step, slot)
    title = f"{run.name}, step {step}, slot {slot}: {description.sample.source}"
    if wanted.as_json != "-":
        console = Console()
        show_sequence(description, title, console, full=wanted.full)
        show_findings(findings, console)
    content = {"run": run.name, "step": step, "slot": slot, **description.to_dict()}
    content["findings"] = [finding.to_dict() for finding in findings]
    _write(wanted.as_json, content)
    if wanted.html is not None:
        _write_file(wanted.html, sequence_page(description, title, findings))
    if wanted.svg is not None:
        _write_file(wanted.svg, sequence_svg(description, title))
    return has_error(findings)


def _overview(run: RunData, wanted: Inspection) -> bool:
    from db1.cli.progress import task_bars
    from db1.inspection.findings import has_error
    from db1.inspection.render_report import overview_document
    from db1.inspection.runs import overview

    with task_bars(Console(stderr=True)) as report:
        found = overview(
            run,
            wanted.samples,
            with_environments=wanted.environments,
            report=lambda name, done, total: (
                report(name, done, total) if name == "datasets" else None
            ),
        )
    document = overview_document(found)
    _deliver(document, found.to_dict(), wanted)
    return has_error(found.findings)


def _stores(paths: list[Path], wanted: Inspection) -> bool:
    from db1.cli.progress import task_bars
    from db1.inspection.findings import has_error
    from db1.inspection.render_report import store_document, stores_document
    from db1.inspection.store_report import broken
    from db1.inspection.stores import describe_store, find_stores

    folders = [folder for path in paths for folder in find_stores(path)]
    is_single = len(folders) == 1
    reports = []
    with task_bars(Console(stderr=True)) as report:
        for folder in folders:
            if not is_single:
                report("stores", len(reports), len(folders))
            try:
                made = describe_store(
                    folder,
                    verify=wanted.verify,
                    with_environment=wanted.environments,
                    report=report if is_single else lambda *_: None,
                )
            except DataError as error:
                if is_single:
                    raise
                made = broken(folder, error)
            reports.append(made)
        if not is_single:
            report("stores", len(reports), len(folders))
    document = (
        store_document(reports[0])
        if is_single
        else stores_document(reports, f"{len(reports)} stores of {', '.join(map(str, paths))}")
    )
    content = [made.to_dict() for made in reports]
    _deliver(document, content[0] if is_single else {"stores": content}, wanted)
    return any(has_error(made.findings) for made in reports)


def _deliver(document: Document, content: Any, wanted: Inspection) -> None:
    """Shows a report, and writes it where that is wanted."""
    if wanted.as_json != "-":
        document.show(_wide_console())
    _write(wanted.as_json, content)
    if wanted.html is not None:
        _write_file(wanted.html, document.to_html())


def _write(target: str | None, content: Any) -> None:
    """Prints JSON for `-`, else writes the file."""
    if target is None:
        return
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if target == "-":
        typer.echo(text)
    else:
        _write_file(Path(target), text + "\n")


def _write_file(path: Path, text: str) -> None:
    from db1.files import atomic_write_text

    try:
        atomic_write_text(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from None
    typer.echo(f"written: {path}", err=True)


def _wide_console() -> Console:
    """At least as wide as the tables need to be read; a narrow terminal scrolls or wraps lines."""
    console = Console()
    return console if console.width >= TABLE_WIDTH else Console(width=TABLE_WIDTH)


VERBS = {"inspect": inspect}
