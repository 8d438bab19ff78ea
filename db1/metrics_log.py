"""metrics.jsonl of a run folder: its writer and its reader."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from db1.errors import DataError
from db1.failures import make_folder, writing
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json

METRICS_FILE = "metrics.jsonl"


class MetricsTracker(Protocol):
    """Another sink for the records of a run."""

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Appends records to metrics.jsonl and hands them to trackers.

    A record is one JSON line: `{"kind": "train", "step": 10, "time": ..., "loss": ...,
    "loss_by_source": {"atari/pong": ...}}`.

    Args:
        folder: The run folder.
        after_step: Step that the run resumes from. Records after it were written by a run that
            was cut off after its last checkpoint; they are removed, for they come again.
        trackers: Get every record, too, and are closed with the file.
    """

    def __init__(
        self, folder: Path | str, after_step: int = 0, trackers: Sequence[MetricsTracker] = ()
    ) -> None:
        folder = Path(folder)
        make_folder(folder)
        self._path = folder / METRICS_FILE
        self._cut(after_step)
        with writing(self._path):
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._trackers = trackers

    def _cut(self, after_step: int) -> None:
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line, default=after_step + 1) <= after_step]
        if len(kept) < len(lines):
            atomic_write_text(self._path, "".join(f"{line}\n" for line in kept))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Appends one record.

        Args:
            kind: `train`, `evaluation`, ...
            step: Number of finished optimizer steps.
            values: Numbers, texts, and dicts of them by name. A number that is not finite is null.
        """
        values = {name: _finite(value) for name, value in values.items()}
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        with writing(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        for tracker in self._trackers:
            tracker.write(kind, step, values)

    def close(self) -> None:
        """Flushes and closes the file and the trackers."""
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


def read_metrics(folder: Path | str, kind: str | None = None) -> list[dict[str, Any]]:
    """Returns the records of a run folder's metrics.jsonl, those of one kind if given."""
    path = Path(folder) / METRICS_FILE
    records = []
    try:
        lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, start=1):
            records.append(parse_json(line))
            check_shape(records[-1], {"kind": str, "step": int}, f"{path} line {number}")
    except ValueError as error:
        if len(records) + 1 == len(lines):  # a run that was killed in the middle of a line
            return _of_kind(records, kind)
        raise DataError(f"{path} line {len(records) + 1}: not JSON ({error})") from error
    return _of_kind(records, kind)


def _of_kind(records: list[dict[str, Any]], kind: str | None) -> list[dict[str, Any]]:
    return [record for record in records if kind is None or record["kind"] == kind]


def _finite(value: Any) -> Any:
    """NaN and infinity -> None, in dicts too: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {name: _finite(number) for name, number in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: str, default: int) -> int:
    """Step of a JSON line; `default` for a line torn by a crash."""
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return default
