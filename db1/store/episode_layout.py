"""The files of an episode store: names, header, columns, and the fixed-size record of an episode.

A store is one folder for one task:

    header.json              format, version, task, spec, environment, expert, action noise
    observations.<key>.bin   one row a step, raw little-endian, C order, nothing else
    actions.bin
    rewards.bin              float32
    strings.jsonl            string table, one JSON string a line; text columns hold uint32 line
                             numbers (only when the spec has text)
    episodes.bin             one 40-byte record an episode (`RECORD`)

An episode of T steps that starts at step s owns the rows s..s+T-1 of every column. Its rows (and
new strings) are written before its record, so a record that is complete and valid vouches for
its rows, and whatever lies behind the last valid record is left over from an interrupted write.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from db1 import __version__
from db1.errors import DataError
from db1.store.columns import columns_of
from db1.tokens.spec import StepSpec

logger = logging.getLogger(__name__)

FORMAT = "db1-episodes"
VERSION = 1
HEADER_FILE = "header.json"
RECORDS_FILE = "episodes.bin"

TERMINATED, SUCCESS, HAS_SUCCESS = 1, 2, 4
"""Bits of a record's `flags`."""

RECORD = np.dtype(
    [
        ("start", "<u8"),
        ("length", "<u4"),
        ("flags", "<u4"),
        ("return", "<f8"),
        ("seed", "<i8"),
        ("column_crc", "<u4"),
        ("record_crc", "<u4"),
    ]
)


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What a store holds and where it came from.

    Args:
        task: Task id, `suite/task`.
        spec: Fields of one step.
        environment: JSON-able description of the environment (ids, versions, horizon).
        expert: Name of the expert that acted; None for imported data without one.
        action_noise: Noise on the executed (not on the recorded) actions.
        max_steps: Steps after which a demonstration was cut off; None: none was.
        created_by: Program and version that made the store.
    """

    task: str
    spec: StepSpec
    environment: Mapping[str, Any] = field(default_factory=dict)
    expert: str | None = None
    action_noise: float = 0.0
    max_steps: int | None = None
    created_by: str = f"db1 {__version__}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of header.json."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["spec"] = self.spec.to_dict()
        content["environment"] = dict(self.environment)
        return json.loads(json.dumps({"format": FORMAT, "version": VERSION, **content}))

    def difference(self, other: StoreHeader) -> str | None:
        """Returns where `other` differs ("spec.action.shape: ..."), or None; ignores created_by."""
        mine, theirs = self.to_dict(), other.to_dict()
        return _difference(mine | {"created_by": ""}, theirs | {"created_by": ""}, "")


def record_checksums(records: np.ndarray, first: int = 0) -> np.ndarray:
    """Checksums of records, uint32, one multiply-and-shift hash over all records at once.

    The hash runs over the record's number and its five little-endian u64 words (the checksum's
    own 32 bits taken as zero), so a record that was damaged, cut, zeroed or moved to another
    place does not match. Vectorised: a store of millions of episodes opens without a loop.

    Args:
        records: `RECORD` array (N,), consecutive records of a store.
        first: Number of the first of them.

    Returns:
        uint32 (N,).
    """
    multiplier, shift = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)
    words = np.ascontiguousarray(records).view("<u8").reshape(-1, RECORD.itemsize // 8)
    last = words.shape[1] - 1
    state = np.arange(first + 1, first + 1 + len(records), dtype=np.uint64)
    for i in range(last + 1):
        word = words[:, i] & np.uint64(0xFFFFFFFF) if i == last else words[:, i]
        state = (state ^ word) * multiplier
        state ^= state >> shift
    return (state >> np.uint64(32)).astype(np.uint32)


def num_valid_records(records: np.ndarray, num_steps: int) -> int:
    """Number of records before the first that is damaged, out of line, or without its rows.

    Args:
        records: `RECORD` array (N,) as read from the file.
        num_steps: Number of complete rows that every column has.
    """
    lengths = records["length"].astype(np.int64)
    ends = np.cumsum(lengths)
    good = records["record_crc"] == record_checksums(records)
    good &= (lengths > 0) & (records["start"] == (ends - lengths).astype(np.uint64))
    good &= ends <= num_steps
    return len(records) if good.all() else int(np.argmin(good))


def read_header(path: Path) -> StoreHeader:
    """Reads header.json of the store in folder `path`.

    Raises:
        DataError: Not a store, another format, or a newer version.
    """
    file = path / HEADER_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no episode store (it has no {HEADER_FILE}); `db1 collect` or `db1 import` "
            "makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: unreadable header ({error}); make the store again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{file}: format {found!r}, expected {FORMAT!r}")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise DataError(
            f"{file}: version {version!r}, this db1 reads 1..{VERSION}; install a newer db1"
        )
    try:
        content = {f.name: content[f.name] for f in fields(StoreHeader)}
        return StoreHeader(**content | {"spec": StepSpec.from_dict(content["spec"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: broken header ({error!r}); make the store again") from None


def write_header(path: Path, header: StoreHeader) -> None:
    """Writes header.json in one move, so that it is never seen half-written."""
    temporary = path / f"{HEADER_FILE}.tmp"
    temporary.write_text(json.dumps(header.to_dict(), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path / HEADER_FILE)


def read_records(path: Path) -> np.ndarray:
    """Reads the complete records of a store, checked or not, `RECORD` (N,)."""
    file = path / RECORDS_FILE
    if not file.exists():
        return np.zeros(0, dtype=RECORD)
    return np.fromfile(file, dtype=RECORD, count=file.stat().st_size // RECORD.itemsize)


def valid_records(path: Path, header: StoreHeader, *, repair: bool = False) -> np.ndarray:
    """Reads the records that vouch for complete episodes, `RECORD` (N,).

    A killed writer leaves at most a part of a record (ignored here); a power cut may also spoil
    the last record, which is left out with a warning. More is damage.

    Args:
        path: Folder of the store.
        header: Its header.
        repair: Take the leading valid records of a damaged store.

    Raises:
        DataError: More than the last record is damaged or lacks its rows.
    """
    records = read_records(path)
    columns = columns_of(path, header.spec).values()
    num_valid = num_valid_records(records, min(column.num_steps() for column in columns))
    num_lost = len(records) - num_valid
    if num_lost > 1 and not repair:
        raise DataError(
            f"{path}: truncated or damaged: the first {num_valid} of {len(records)} episodes are "
            "complete; make the store again, or open it once with EpisodeWriter(repair=True) to "
            "keep those"
        )
    if num_lost:
        logger.warning("%s: left out %d incomplete episode(s) at the end", path, num_lost)
    if not (path / RECORDS_FILE).exists() and any(column.path.exists() for column in columns):
        raise DataError(f"{path}: {RECORDS_FILE} is missing; make the store again")
    return records[:num_valid]


def _difference(mine: Any, theirs: Any, where: str) -> str | None:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted(mine.keys() | theirs.keys()):
            inner = f"{where}.{key}" if where else key
            if key not in mine or key not in theirs:
                holder = "only there" if key in mine else "only in the new header"
                return f"{inner}: {holder}"
            found = _difference(mine[key], theirs[key], inner)
            if found:
                return found
        return None
    return None if mine == theirs else f"{where}: there {mine!r}, new {theirs!r}"
