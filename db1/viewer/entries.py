"""recording.json of a task: what was filmed, from which results, and whether it can be kept.

    {"task": ..., "stamp": {"results": weights, seeds, returns, "film": frames, size},
     "episodes": {"best": {"file", "seed", "return", "evaluated_return", "same", ...}, ...}}

A task that could not be filmed has `failure` in place of `episodes`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json_file
from db1.untrusted import below

logger = logging.getLogger(__name__)

VIDEOS_FOLDER = "videos"
RECORDING_FILE = "recording.json"
_SHAPE = {
    "task": str,
    "stamp": {"results": (str, int, float, list, dict, type(None))},
    "failure?": str,
    "episodes?": {str: {"file": str, "same?": bool}},
}
_MAX_ATTEMPTS = 2
"""Attempts to film a task that takes the program down."""


def read_recordings(folder: Path, results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Recordings beside results.json, by task; those of other results are left out."""
    found = {}
    for path in sorted((folder / VIDEOS_FOLDER).glob(f"*/*/{RECORDING_FILE}")):
        try:
            entry = parse_json_file(path)
        except ValueError as error:
            raise DataError(f"{path}: not a recording ({error}); run `db1 record` again") from error
        check_shape(entry, _SHAPE, path)
        task, stamp = entry["task"], entry["stamp"]
        if task not in results["tasks"]:
            continue
        if stamp["results"] != stamp_of_results(results, task):
            logger.warning("%s: recorded from other results; run `db1 record` again", path)
            continue
        found[task] = entry
    return found


def stamp_of(results: Mapping[str, Any], task: str, film: Mapping[str, Any]) -> dict[str, Any]:
    """Stamp that a recording must agree with to be kept."""
    return {"results": stamp_of_results(results, task), "film": dict(film)}


def stamp_of_results(results: Mapping[str, Any], task: str) -> dict[str, Any]:
    entry, checkpoint = results["tasks"][task], results["provenance"]["checkpoint"]
    weights = checkpoint and checkpoint["sha256"]
    return {"weights": weights, "seeds": entry["seeds"], "returns": entry["returns"]}


def earlier_entry(place: Path, stamp: Mapping[str, Any]) -> dict[str, Any] | None:
    """An earlier recording of the very same episodes; None where it is to be made (again)."""
    entry = _read_entry(place)
    if entry.get("stamp") != stamp:
        return None
    if "failure" in entry:
        return entry if entry.get("attempts", 0) >= _MAX_ATTEMPTS else None
    try:
        is_whole = all(below(place, e["file"]).is_file() for e in entry["episodes"].values())
    except (DataError, KeyError, TypeError, AttributeError):
        return None
    return entry if is_whole else None


def mark_attempt(place: Path, entry: Mapping[str, Any], overwrite: bool) -> None:
    """Notes that a task is being filmed: what takes the whole program along is given up."""
    earlier = _read_entry(place)
    is_again = not overwrite and earlier.get("stamp") == entry["stamp"]
    attempts = earlier.get("attempts", 0) if is_again else 0
    failure = "the program ended while this was filmed; try again with --overwrite"
    write_entry(place, {**entry, "failure": failure, "attempts": attempts + 1})


def _read_entry(place: Path) -> dict[str, Any]:
    try:
        entry = parse_json_file(place / RECORDING_FILE)
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}


def write_entry(place: Path, entry: Mapping[str, Any]) -> None:
    make_folder(place)
    atomic_write_text(below(place, RECORDING_FILE), json.dumps(entry, indent=1) + "\n")
