"""The returns that normalise a score, as `db1 collect` measured them beside the demonstrations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import DataError

REFERENCES_FILE = "references.json"


@dataclass(frozen=True, kw_only=True)
class References:
    """Random and expert return of one task.

    Args:
        random: Mean return of uniform random actions.
        expert: Mean return of the task's expert.
        environment: Version of the environment that both were measured on.
        details: The whole references file: episodes, seeds, spreads and policies.
    """

    random: float
    expert: float
    environment: Mapping[str, str]
    details: Mapping[str, Any]


def load_references(folder: Path, task_id: str) -> References:
    """Reads a task's references from its demonstration folder.

    Raises:
        DataError: When the file is missing, broken, or another task's.
    """
    path = folder / REFERENCES_FILE
    if not path.is_file():
        raise DataError(
            f"{path}: no reference returns of {task_id}; run "
            f"`db1 collect {task_id} --episodes 1 --out {_root(folder, task_id)}`"
        )
    try:
        details = json.loads(path.read_text(encoding="utf-8"))
        references = References(
            random=float(details["random"]["mean"]),
            expert=float(details["expert"]["mean"]),
            environment=dict(details["environment"]),
            details=details,
        )
        task = details["task"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: broken references ({error!r}); collect them again") from error
    if task != task_id:
        raise DataError(f"{path}: references of task {task!r}, expected {task_id!r}")
    return references


def version_difference(measured: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Names every entry in which two environment versions differ; None when they agree."""
    parts = [
        f"{key}: {measured.get(key, 'absent')} then, {now.get(key, 'absent')} now"
        for key in sorted({*measured, *now})
        if measured.get(key) != now.get(key)
    ]
    return "; ".join(parts) or None


def check_version(
    task_id: str, references: References, now: Mapping[str, str], allow_mismatch: bool
) -> str | None:
    """Returns the difference between the references' environment and today's, None when equal.

    Raises:
        DataError: When they differ and that is not allowed.
    """
    difference = version_difference(references.environment, now)
    if difference and not allow_mismatch:
        raise DataError(
            f"{task_id}: the references were measured on another environment ({difference}); "
            "collect them again, or allow the mismatch and have it recorded"
        )
    return difference


def _root(folder: Path, task_id: str) -> Path:
    """The data folder that holds `folder` as its task's store."""
    depth = len(Path(task_id).parts)
    return folder.parents[depth - 1] if len(folder.parts) > depth else folder
