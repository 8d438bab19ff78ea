"""Kinds of foreign data that `db1 import KIND SOURCE --out DIR` reads: one module each.

A kind is a frozen dataclass of options and a function, entered in `IMPORTERS`:

    @dataclass(frozen=True, kw_only=True)
    class CocoOptions(Checked):
        image_size: Count = option(224, "Side of the stored images in pixels.")

    def import_coco(source: str, out: Path, options: CocoOptions, context: ImportContext):
        for i, pair in enumerate(...):
            context.progress("coco", i + 1, total)
        return ImportSummary(source=source, out=out, num_stored=..., unit="pairs")

    IMPORTERS.register("coco")(
        ImportKind(
            run=import_coco,
            options=CocoOptions,
            help="COCO captions.",
            source_help="Folder with annotations/ and the images.",
            example="db1 import coco coco/ --out data/coco",
        )
    )

The command line makes one `--option` of every field that was declared with `option(...)` (the
field `image_size` becomes `--image-size`, a bool a flag without a value), so that a kind needs no
code there. Fields without it keep their default there. Importing
`db1.importers` enters every kind; heavy packages are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db1.errors import ConfigError
from db1.options import option
from db1.registry import Registry
from db1.tokens.spec import StepSpec

Progress = Callable[[str, int, int | None], None]
"""`progress(name, done, total)`; total is None while nobody knows it."""


def no_progress(name: str, done: int, total: int | None) -> None:
    """Shows nothing."""


def no_order(task: str) -> tuple[str, ...]:
    """No order is known."""
    return ()


def no_known_spec(task: str) -> StepSpec | None:
    """Knows no task."""


@dataclass(frozen=True, kw_only=True)
class OpenTask:
    """One of db1's own tasks, ready to be drawn; this room does not know suites.

    Args:
        env: Has `step_spec`, `reset`, `step`, `sample_action`, `render_frame` and `close` of a
            `db1.suites.base.TaskEnv`.
        version: What the environment is: its id, versions of packages.
    """

    env: Any
    version: Mapping[str, str]


def no_task(task: str) -> OpenTask:
    """Opens no task."""
    raise ConfigError(f"{task}: no task can be opened here")


@dataclass(frozen=True, kw_only=True)
class ImportContext:
    """Services of the caller for every importer.

    Args:
        progress: Called after each stored item.
        known_spec: Step spec of one of db1's own tasks by task id; None for an unknown task, or
            for one whose suite is not installed.
        forbidden_seeds: Seeds of evaluations; episodes with one are left out and counted.
        open_task: Opens one of db1's own tasks by its id.
        packed_order: Keys of a task's observation in the order in which data sets pack their
            numbers in one vector; empty where that is not known.
    """

    progress: Progress = no_progress
    known_spec: Callable[[str], StepSpec | None] = no_known_spec
    forbidden_seeds: range = range(0)
    open_task: Callable[[str], OpenTask] = no_task
    packed_order: Callable[[str], tuple[str, ...]] = no_order


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """Outcome of an import.

    Args:
        source: What was read, as an absolute path or a data set's id.
        out: The store.
        unit: What is counted, "episodes", "documents" or "pairs".
        num_stored: In the store now.
        num_before: Of these, stored by an earlier run of the same import.
        counts: How many were left out or changed, by reason ("below --min-return-share": 3).
        notes: Further sentences for the user.
    """

    source: str
    out: Path
    unit: str
    num_stored: int
    num_before: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The summary for a person, a line each."""
        before = f" ({self.num_before:,} of them before)" if self.num_before else ""
        first = f"{self.out}: {self.num_stored:,} {self.unit}{before}, from {self.source}"
        return [
            first,
            *(f"  {reason}: {count:,}" for reason, count in self.counts.items() if count),
            *(f"  {note}" for note in self.notes),
        ]


@dataclass(frozen=True, kw_only=True)
class ImportKind:
    """One kind of foreign data.

    Args:
        run: (source, folder of the store, options, context) -> summary. Goes on where an earlier
            run with the same arguments was killed.
        options: Frozen keyword-only dataclass, all fields with defaults.
        help: One sentence.
        source_help: What SOURCE is.
        example: A whole command line.
    """

    run: Callable[[str, Path, Any, ImportContext], ImportSummary]
    options: type[Any]
    help: str
    source_help: str
    example: str


__all__ = [
    "IMPORTERS",
    "ImportContext",
    "ImportKind",
    "ImportSummary",
    "OpenTask",
    "option",
]

IMPORTERS: Registry[ImportKind] = Registry("kind of data")
