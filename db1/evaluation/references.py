"""The returns that normalise a score, and where they come from.

    store                        `references.json` beside the demonstrations (`db1 collect`)
    measured                     `db1 tasks measure`: a folder of one's own, or the scores that
                                 come with db1
    db1, jat, d4rl, atari-human  published ones

Without a choice it is the store's, or where there is none the measured ones of the very environment
version that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import DataError, check_one_of
from db1.suites.scores import (
    MEASURED,
    Measured,
    Reference,
    measured_of,
    read_measured,
    reference_names,
    references_of,
    version_difference,
)
from db1.suites.scores.stored import REFERENCES_FILE, broken, read_stored

STORE, NO_REFERENCE = "store", "none"


class MissingReference(DataError):
    """A task has no reference returns of the kind that was asked for."""


@dataclass(frozen=True, kw_only=True)
class References:
    """Random and expert return of one task.

    Args:
        random: Mean return of uniform random actions.
        expert: Mean return of the task's expert, or of a human where the reference has none.
        mismatch: In what the environment that both were got in differs from the one that is
            installed; None: in nothing.
        details: The whole entry, with `name`: episodes, seeds, spreads and policies.
    """

    random: float
    expert: float
    mismatch: str | None
    details: Mapping[str, Any]


def reference_choices() -> tuple[str, ...]:
    """Names that `EvaluationConfig.reference` may have."""
    return (STORE, *reference_names(), NO_REFERENCE)


def check_choice(choice: str | None) -> None:
    """Raises ConfigError for an unknown name of a reference."""
    if choice is not None:
        check_one_of("reference", choice, reference_choices())


def find_references(
    task_id: str,
    choice: str | None,
    folder: Path,
    now: Mapping[str, str],
    scores: Path | None = None,
) -> References | None:
    """Finds the references of a task.

    Args:
        task_id: `suite/task`.
        choice: Their name; None: the store's, else the measured ones of this version.
        folder: The task's demonstration store.
        now: The environment version that is installed.
        scores: Folder of `db1 tasks measure`; looked into before the scores that come with db1.

    Returns:
        The references; None for the choice `none`.

    Raises:
        MissingReference: When there are none, or they do not span a score.
        DataError: When a file is broken or another task's.
    """
    if choice == NO_REFERENCE:
        return None
    if choice == STORE or (choice is None and (folder / REFERENCES_FILE).is_file()):
        return _checked(task_id, load_references(folder, task_id, now))
    if choice is None or choice == MEASURED:
        return _checked(task_id, _measured(task_id, now, scores, choice))
    published = references_of(task_id).get(choice)
    if published is None or published.random is None or published.best is None:
        raise MissingReference(f"{task_id}: no reference {choice!r}; {_others(task_id)}")
    mismatch = None if published.comparable else published.why_not
    entry = {key: value for key, value in published.details.items() if key != "name"}
    details = {"name": choice, "published_as": published.details["name"]} | entry
    return _checked(
        task_id,
        References(
            random=published.random, expert=published.best, mismatch=mismatch, details=details
        ),
    )


def load_references(folder: Path, task_id: str, now: Mapping[str, str]) -> References:
    """Reads a task's references from its demonstration folder.

    Raises:
        MissingReference: When the file is missing.
        DataError: When it is broken, or another task's.
    """
    stored = read_stored(folder)
    if stored is None:
        raise MissingReference(
            f"{folder / REFERENCES_FILE}: no reference returns of {task_id}; run "
            f"`db1 collect {task_id} --episodes 1 --out {_root(folder, task_id)}`"
        )
    try:
        task, environment = stored.content["task"], dict(stored.content["environment"])
    except (ValueError, KeyError, TypeError) as error:
        raise broken(folder, error) from error
    if task != task_id:
        raise DataError(
            f"{folder / REFERENCES_FILE}: references of task {task!r}, expected {task_id!r}"
        )
    return References(
        random=stored.random,
        expert=stored.expert,
        mismatch=version_difference(environment, now),
        details=stored.content,
    )


def check_mismatch(task_id: str, references: References, allow: bool) -> None:
    """Raises DataError when references are of another environment and that is not allowed."""
    if references.mismatch and not allow:
        raise DataError(
            f"{task_id}: the references were measured on another environment "
            f"({references.mismatch}); collect them again, choose another --reference, or allow "
            f"the mismatch (--allow-version-mismatch) and have it recorded"
        )


def _measured(
    task_id: str, now: Mapping[str, str], scores: Path | None, choice: str | None
) -> References:
    """Those of this version; when they are asked for by name, else the newest of another one."""
    entry = None if scores is None else measured_of(task_id, now, scores)
    if entry is None or not _is_whole(entry):
        entry = measured_of(task_id, now)
    if (entry is None or not _is_whole(entry)) and choice == MEASURED:
        entry = next(filter(_is_whole, reversed(read_measured(task_id))), None)
    if entry is None or entry.random is None or entry.expert is None:
        lacks = "random and expert" if entry is None or entry.random is None else "expert"
        raise MissingReference(
            f"{task_id}: no {lacks} return was measured for this environment "
            f"version; {_others(task_id)}"
        )
    return References(
        random=float(entry.random["mean"]),
        expert=float(entry.expert["mean"]),
        mismatch=version_difference(entry.environment, now),
        details={"name": MEASURED, "task": task_id, "measured_on": entry.measured_on}
        | entry.to_dict(),
    )


def _is_whole(entry: Measured) -> bool:
    return entry.random is not None and entry.expert is not None


def _checked(task_id: str, references: References) -> References:
    span = references.expert - references.random
    if not math.isfinite(span) or span == 0:
        raise MissingReference(
            f"{task_id}: its references, random {references.random:.4g} and expert "
            f"{references.expert:.4g}, do not span a score; {_others(task_id)}"
        )
    return references


def _others(task_id: str) -> str:
    """Advice for a task without references: those that exist, and how to measure some."""
    usable = [name for name, found in references_of(task_id).items() if _spans(found)]
    there = f"choose --reference {' or '.join(usable)}, " if usable else ""
    return (
        f"{there}run `db1 tasks measure {task_id}` and pass its --out as --scores, or report raw "
        f"returns (--allow-missing-reference)"
    )


def _spans(reference: Reference) -> bool:
    return None not in (reference.random, reference.best) and reference.random != reference.best


def _root(folder: Path, task_id: str) -> Path:
    """The data folder that holds `folder` as its task's store."""
    depth = len(Path(task_id).parts)
    return folder.parents[depth - 1] if len(folder.parts) > depth else folder
