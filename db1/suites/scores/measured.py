"""Measured random and expert returns: one JSON file a suite, one entry an environment version.

{"format": "db1-scores-1", "suite": "tsp",
 "tasks": {"tsp/uniform20": [{"environment": {"id": ..., "horizon": ...},
                              "wrapper": "db1.suites.tsp.TspEnv",
                              "random": {"mean": ..., "episodes": ..., "seeds": [...], ...},
                              "expert": {...}}]}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.failures import make_folder
from db1.json_shape import parse_json_file
from db1.locks import wait_for_lock

FORMAT = "db1-scores-1"
FOLDER = Path(__file__).parent / "measured"
"""The scores that come with db1."""
POLICIES = ("random", "expert", "planner")
"""Policies that can be measured; `planner` where the task's expert is another one, or none."""
SAME_RETURNS = {"dmc": "-pixels"}
"""Endings of task names, by suite, that change the observation only: such a task has the returns of
the task without the ending, unless it was measured itself."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of one task in one environment version.

    Args:
        task: Task id.
        environment: `Suite.environment_version` at that time.
        random: The measurement of the random policy (`db1.collection.measurement.measure`), if any.
        expert: That of the expert, if any.
        planner: That of the sampling planner in a task whose expert is another, if any.
        wrapper: The class that wrapped the simulator.
        measured_on: The task that was played, where only its observation differs from `task`'s.
    """

    task: str
    environment: Mapping[str, str]
    random: Mapping[str, Any] | None = None
    expert: Mapping[str, Any] | None = None
    planner: Mapping[str, Any] | None = None
    wrapper: str = ""
    measured_on: str

    def to_dict(self) -> dict[str, Any]:
        """The entry of the file."""
        entry: dict[str, Any] = {"environment": dict(self.environment), "wrapper": self.wrapper}
        for policy in POLICIES:
            measurement = getattr(self, policy)
            if measurement is not None:
                entry[policy] = dict(measurement)
        return entry


def version_difference(then: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Names every entry in which two environment versions differ; None when they agree."""
    parts = [
        f"{key}: {then.get(key, 'absent')} then, {now.get(key, 'absent')} now"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    return "; ".join(parts) or None


def read_measured(task_id: str, folder: Path = FOLDER) -> list[Measured]:
    """Returns what was measured of a task, one entry an environment version, oldest first."""
    suite, _, name = task_id.partition("/")
    content = _read(suite, folder)
    if task_id in content["tasks"]:
        return [_entry(task_id, task_id, e) for e in content["tasks"][task_id]]
    played = f"{suite}/{name.removesuffix(SAME_RETURNS.get(suite, ''))}"
    return [_entry(task_id, played, e) for e in content["tasks"].get(played, ())]


def measured_of(
    task_id: str, environment_version: Mapping[str, str], folder: Path = FOLDER
) -> Measured | None:
    """Returns what was measured of a task in this very environment version; None for nothing."""
    for entry in read_measured(task_id, folder):
        if version_difference(entry.environment, environment_version) is None:
            return entry
    return None


def add_measurement(
    folder: Path,
    task_id: str,
    environment_version: Mapping[str, str],
    wrapper: str,
    measurements: Mapping[str, Mapping[str, Any]],
) -> None:
    """Enters measurements, replacing older ones of the same version.

    The file is replaced as a whole, or not at all.

    Args:
        folder: Of the scores; made where it is missing.
        task_id: `suite/task`.
        environment_version: `Suite.environment_version` of the task.
        wrapper: The class that wraps the simulator.
        measurements: What `db1.collection.measurement.measure` returned, by policy out of
            `POLICIES`.

    Raises:
        DataError: When the folder's file is broken or cannot be written.
    """
    suite = task_id.partition("/")[0]
    with _locked(folder):
        content = json.loads(json.dumps(_read(suite, folder)))
        entries = content["tasks"].setdefault(task_id, [])
        fresh = {"environment": dict(environment_version), "wrapper": wrapper}
        for entry in entries:
            if version_difference(entry["environment"], environment_version) is None:
                fresh = entry
                break
        else:
            entries.append(fresh)
        fresh.update({"wrapper": wrapper} | {k: dict(v) for k, v in measurements.items()})
        content["tasks"] = dict(sorted(content["tasks"].items()))
        _write(_path(suite, folder), content)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder, so that two commands that measure do not lose each other's entries."""
    try:
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{folder}: cannot write ({error}); choose another --out") from error
    try:
        wait_for_lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _path(suite: str, folder: Path) -> Path:
    return folder / f"{suite}.json"


def _read(suite: str, folder: Path) -> dict[str, Any]:
    path = _path(suite, folder)
    try:
        stat = path.stat()
    except OSError:
        return {"format": FORMAT, "suite": suite, "tasks": {}}
    return _parse(path, suite, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _parse(path: Path, suite: str, mtime: int, size: int) -> dict[str, Any]:
    try:
        content = parse_json_file(path)
        if content["format"] != FORMAT or content["suite"] != suite:
            raise DataError(
                f"{path}: format {content['format']!r} of suite {content['suite']!r}, "
                f"expected {FORMAT!r} of {suite!r}"
            )
        for task, entries in content["tasks"].items():
            for entry in entries:
                _entry(task, task, entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not valid scores ({error!r}); delete it and run `db1 tasks measure` again"
        ) from error
    return content


def _entry(task_id: str, played: str, entry: Mapping[str, Any]) -> Measured:
    environment = {str(k): str(v) for k, v in entry["environment"].items()}
    found = {policy: entry[policy] for policy in POLICIES if policy in entry}
    for measurement in found.values():
        float(measurement["mean"]), int(measurement["episodes"])
    return Measured(
        task=task_id,
        environment=environment | {"id": task_id},
        wrapper=str(entry.get("wrapper", "")),
        measured_on=played,
        **found,
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_text(_dump(content), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot write ({error}); choose another --out") from error


def _dump(content: Mapping[str, Any]) -> str:
    """JSON with one line a measurement, so that differences between two files can be read."""
    head = {key: value for key, value in content.items() if key != "tasks"}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    tasks = []
    for task, entries in content["tasks"].items():
        versions = []
        for entry in entries:
            parts = [f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in entry.items()]
            versions.append("{\n" + ",\n".join(parts) + "}")
        tasks.append(f"  {json.dumps(task)}: [" + ", ".join(versions) + "]")
    lines.append(' "tasks": {\n' + ",\n".join(tasks) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"
