"""The tasks of one evaluation as work for any number of processes: claimed, done, kept.

    <out>/finished/metaworld~reach-v3.json    what a finished task came to: {"entry": ...} or
                                              {"failure": "..."}; written once, whole
    <out>/finished/metaworld~reach-v3.lock    held while a process works on it

A task of a process that was killed is free again (`db1.processes.claims`). Whoever is free takes
the next task: the split over processes and machines follows their speed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.evaluation.results import TASK_SHAPE
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json_file, seal, unseal
from db1.processes.claims import Claims
from db1.untrusted import below

FINISHED_FOLDER = "finished"


class TaskQueue:
    """See the module's docstring.

    Args:
        out: Folder of the results.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FINISHED_FOLDER
        self._claims = Claims(self._folder)

    @contextmanager
    def claim(self, task: str) -> Iterator[bool]:
        """Holds a task while the block runs: True; False when another one has it or finished it."""
        with self._claims.claim(task) as is_mine:
            yield is_mine and not self.is_finished(task)

    def finish(self, task: str, part: dict[str, Any]) -> None:
        """Writes what a task came to."""
        text = json.dumps(seal({"task": task, **part}), indent=1, allow_nan=False)
        atomic_write_text(self._path(task, "json"), text + "\n")

    def is_finished(self, task: str) -> bool:
        """Tells whether the task has been written."""
        return self._path(task, "json").is_file()

    def read(self, task: str) -> dict[str, Any] | None:
        """Outcome of a task; None while it is not finished.

        Raises:
            DataError: When its file is broken.
        """
        path = self._path(task, "json")
        try:
            part = parse_json_file(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(
                f"{path}: not JSON ({error}); delete it to play the task again"
            ) from error
        check_shape(part, dict, path)
        part, is_whole = unseal(part)
        if not is_whole:
            raise DataError(f"{path}: changed since it was written; delete it to play again")
        check_shape(part, {"entry?": TASK_SHAPE, "failure?": str}, path)
        if not {"entry", "failure"} & part.keys():
            raise DataError(f"{path}: neither an entry nor a failure; delete it to play again")
        return part

    def forget(self, task: str) -> None:
        """Removes what a task came to, so that it is done again."""
        self._path(task, "json").unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes what all tasks came to."""
        for path in self._folder.glob("*.json"):
            path.unlink()

    def tasks(self) -> list[str]:
        """All finished tasks, sorted."""
        return sorted(path.stem.replace("~", "/") for path in self._folder.glob("*.json"))

    def _path(self, task: str, ending: str) -> Path:
        return below(self._folder, f"{task.replace('/', '~')}.{ending}")
