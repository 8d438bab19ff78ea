"""Data of a run: fingerprints of its stores in data.json, and checks that they still hold.

    {"version": 1,
     "sources": {"tsp/uniform20": {"kind": "episodes", "counts": {"episodes": 20, "steps": 400,
                                   "held out": 1}, "digest": SHA-256 of records and header}, ...},
     "changes": [{"step": 1200, "what": ["tsp/uniform20: episodes 20 -> 40", ...]}, ...]}

Sample n of a run is a function of its data: with other data it is another sample, and an episode of
the evaluation loss may be trained on. So a run is gone on with on the same data only, unless
`training.allow_changed_data` allows others, which is noted. Rows and documents are compared with
their checksums, some of them at the start and all of them beside the training.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from db1.checkpoint.run import FOLDER
from db1.data.stored import StoredSource
from db1.errors import DataError
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json_file
from db1.training.config import TrainingConfig

logger = logging.getLogger(__name__)

DATA_FILE = "data.json"
VERSION = 1
SAMPLE_SECONDS = 0.4
"""Time limit of the sample at the start."""
SAMPLE_ROUNDS = 8
"""Episodes or blocks of each store in it, at most."""
REST = 4.0
"""Rests of the check beside the training, as multiples of the time that it works."""
_SHAPE = {
    "version": int,
    "sources": {str: {"kind": str, "counts": {str: int}, "digest": str}},
    "changes": [dict],
}


class RunData:
    """The data of one run; the first process asks it, and it watches them there.

    Args:
        sources: What is learned from and evaluated on, by name.
        training: Says what is allowed and checked.
    """

    def __init__(self, sources: Mapping[str, StoredSource], training: TrainingConfig) -> None:
        self._sources = sources
        self._allowed = training.allow_changed_data
        self._verifies = training.verify_data
        self._error: DataError | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def settle(self, run_folder: Path) -> None:
        """Compares the data with those of the run so far, and writes data.json.

        Raises:
            DataError: They are others and that is not allowed, data.json is broken, or a row of the
                sample differs from its checksum.
        """
        now = {name: source.state() for name, source in self._sources.items()}
        earlier = _read(run_folder / DATA_FILE)
        step = _newest_step(run_folder)
        sources, changes = dict(now), []
        if earlier is not None:
            changes = earlier["changes"]
            differences = _differences(earlier["sources"], now)
            if differences and step is not None:
                self._check_allowed(run_folder, differences)
                changes = [*changes, {"step": step, "what": differences}]
            if step is not None:
                sources = earlier["sources"] | now
        elif step is not None:
            logger.info(
                "%s: started without fingerprints of its data; those of the "
                "present data are recorded",
                run_folder,
            )
        if self._verifies:
            self._check_sample()
        content = {"version": VERSION, "sources": sources, "changes": changes}
        atomic_write_text(run_folder / DATA_FILE, json.dumps(content, indent=1) + "\n")

    def _check_allowed(self, run_folder: Path, differences: list[str]) -> None:
        shown = "; ".join(differences[:6]) + ("; ..." if len(differences) > 6 else "")
        if not self._allowed:
            raise DataError(
                f"{run_folder}: its data are not those that it was trained on ({shown}); restore "
                "them, give this run another name, or go on with training.allow_changed_data=true, "
                f"which is noted in {DATA_FILE}"
            )
        logger.warning("%s: goes on with other data (%s), as allowed", run_folder, shown)

    def _check_sample(self) -> None:
        """Compares rows here and there with their checksums, for a moment."""
        end, rng = time.monotonic() + SAMPLE_SECONDS, np.random.default_rng()
        sources = [source for source in self._sources.values() if source.is_checkable]
        for source in sources:
            source.warn_of_lost_records()
        for number in rng.permutation(SAMPLE_ROUNDS * len(sources)).tolist():
            if time.monotonic() >= end:
                return
            sources[number % len(sources)].check_one(rng)

    def watch(self) -> None:
        """Begins to compare everything with its checksums, in a thread that rests a lot."""
        if self._verifies and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="verify data", daemon=True)
            self._thread.start()

    @property
    def is_damaged(self) -> bool:
        """True when damage was found by now."""
        return self._error is not None

    def raise_found(self) -> None:
        """Raises the DataError of the damage that was found, if any."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        started = time.monotonic()

        def rest(done: int, total: int) -> None:
            nonlocal started
            if self._ended.wait(min(REST * (time.monotonic() - started), 5.0)):
                raise _Ended
            started = time.monotonic()

        try:
            for source in self._sources.values():
                source.check(rest)
            logger.info("data verified: all rows and documents are as they were written")
        except _Ended:
            pass
        except DataError as error:
            self._error = error
        except OSError as error:
            self._error = DataError(f"the data cannot be read: {error}")


class _Ended(Exception):
    """The training ends before the check does."""


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a data.json; None without one."""
    try:
        content = parse_json_file(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: unreadable ({error}); delete it to take the data as they are now"
        ) from error
    check_shape(content, _SHAPE, path)
    if content["version"] > VERSION:
        raise DataError(f"{path}: version {content['version']}; install a newer db1")
    return content


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences between sources in both, a line each."""
    found = []
    for name in sorted(old.keys() & new.keys()):
        before, now = old[name], new[name]
        if before["digest"] == now["digest"]:
            continue
        counts = [
            f"{key} {before['counts'].get(key)} -> {count}"
            for key, count in now["counts"].items()
            if before["counts"].get(key) != count
        ]
        found.append(f"{name}: {', '.join(counts) or 'as many, and other ones'}")
    return found


def _newest_step(run_folder: Path) -> int | None:
    """Step of the newest checkpoint, whole or not; None without one: nothing was learned yet."""
    tags = (path.name.removeprefix("step-") for path in (run_folder / FOLDER).glob("step-*"))
    steps = [int(tag) for tag in tags if tag.isdigit()]
    return max(steps, default=None)
