"""The references of a task by name, each with whether it compares with the task as it is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db1.errors import DataError, MissingExtra
from db1.suites.base import SUITES
from db1.suites.scores.measured import FOLDER, Measured, read_measured, version_difference
from db1.suites.scores.published import published_names, published_of

MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Returns that a task's score can be normalised by.

    Args:
        name: `measured`, or that of a published collection.
        random, expert, human: Mean returns; None where nobody measured them.
        environment: Version and rules that they were got with, in words.
        comparable: Whether these are the task's version and rules here.
        why_not: Why they are not; None where they are.
        source: Who measured.
        details: The whole entry.
    """

    name: str
    random: float | None = None
    expert: float | None = None
    human: float | None = None
    environment: str
    comparable: bool
    why_not: str | None = None
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """The return that counts as 100 %: the expert's, or where there is none the human's."""
        return self.human if self.expert is None else self.expert

    def to_dict(self) -> dict[str, Any]:
        """Everything but the details."""
        names = ("random", "expert", "human", "environment", "comparable", "why_not", "source")
        return {name: getattr(self, name) for name in names}


def reference_names() -> tuple[str, ...]:
    """Names that a reference can have; `measured` comes first."""
    return (MEASURED, *published_names())


def references_of(task_id: str, folder: Path = FOLDER) -> dict[str, Reference]:
    """Returns all references of a task by name, `measured` first.

    Of the measured ones it is that of the environment version that is installed; where there is
    none, the newest other one, which is then not comparable.

    Args:
        task_id: `suite/task`.
        folder: Where the measured ones lie.

    Raises:
        ConfigError: For an unknown task.
        DataError: When the folder's file is broken.
    """
    measured = _measured_reference(task_id, folder)
    found = {} if measured is None else {MEASURED: measured}
    return found | _published_references(task_id)


def recorded_references(task_id: str, folder: Path = FOLDER) -> dict[str, Reference]:
    """Returns what `references_of` would where the newest measured version is installed.

    For tables that say the same on every machine.
    """
    entries = read_measured(task_id, folder)
    newest = {MEASURED: _from_measured(entries[-1], None)} if entries else {}
    return newest | _published_references(task_id)


def _published_references(task_id: str) -> dict[str, Reference]:
    entries = {name: published_of(task_id, name) for name in published_names()}
    return {name: _published_reference(name, e) for name, e in entries.items() if e is not None}


def _measured_reference(task_id: str, folder: Path) -> Reference | None:
    entries = read_measured(task_id, folder)
    if not entries:
        return None
    suite, _, name = task_id.partition("/")
    try:
        now = SUITES[suite].environment_version(name)
    except (MissingExtra, DataError) as error:
        return _from_measured(entries[-1], f"the suite is not installed here ({error})")
    for entry in entries:
        if version_difference(entry.environment, now) is None:
            return _from_measured(entry, None)
    return _from_measured(entries[-1], version_difference(entries[-1].environment, now))


def _from_measured(entry: Measured, why_not: str | None) -> Reference:
    parts = [f"{key} {value}" for key, value in entry.environment.items() if key != "id"]
    played = "" if entry.measured_on == entry.task else f", played on {entry.measured_on}"
    return Reference(
        name=MEASURED,
        random=None if entry.random is None else float(entry.random["mean"]),
        expert=None if entry.expert is None else float(entry.expert["mean"]),
        environment=", ".join(parts) + played,
        comparable=why_not is None,
        why_not=why_not,
        source="db1 tasks measure",
        details=entry.to_dict() | {"task": entry.task, "measured_on": entry.measured_on},
    )


def _published_reference(name: str, entry: Mapping[str, Any]) -> Reference:
    return Reference(
        name=name,
        random=entry.get("random"),
        expert=entry.get("expert"),
        human=entry.get("human"),
        environment=entry["environment"],
        comparable=entry["comparable"],
        why_not=entry.get("why_not"),
        source=entry["source"],
        details=dict(entry),
    )
