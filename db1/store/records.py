"""`episodes.bin`: one fixed-size record an episode, which vouches for everything else.

A record is valid when its checksum fits its place and contents, it goes on where the one before it
ended, and all that it vouches for (rows, texts, metadata) lies on disk. Records are read and
checked in chunks, so that millions of them need little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.store.files import StoreFile

RECORDS_FILE = "episodes.bin"
TERMINATED, SUCCESS, HAS_SUCCESS = 1, 2, 4
"""Bits of a record's `flags`."""

RECORD_V1 = np.dtype(
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
RECORD = np.dtype(
    [
        ("start", "<u8"),  # first step
        ("length", "<u4"),  # steps
        ("flags", "<u4"),
        ("return", "<f8"),
        ("seed", "<i8"),
        ("num_strings", "<u8"),  # lines of the string table up to this episode
        ("metadata_end", "<u8"),  # bytes of metadata.jsonl up to this episode
        ("column_crc", "<u4"),  # of the episode's rows, then its metadata
        ("record_crc", "<u4"),
    ]
)
_DTYPES = {1: RECORD_V1, 2: RECORD}
_CHUNK = 1 << 15


def record_checksums(records: np.ndarray, first: int = 0) -> np.ndarray:
    """Checksums of records, uint32, one multiply-and-shift hash over all records at once.

    The hash runs over the record's number and its little-endian u64 words (the checksum's own 32
    bits taken as zero), so a record that was damaged, cut, zeroed or moved to another place does
    not match. Vectorised: a store of millions of episodes opens without a loop.

    Args:
        records: `RECORD` or `RECORD_V1` array (N,), consecutive records of a store.
        first: Number of the first of them.

    Returns:
        uint32 (N,).
    """
    multiplier, shift = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)
    num_words = records.dtype.itemsize // 8
    words = np.ascontiguousarray(records).view("<u8").reshape(-1, num_words)
    state = np.arange(first + 1, first + 1 + len(records), dtype=np.uint64)
    for i in range(num_words):
        word = words[:, i] & np.uint64(0xFFFFFFFF) if i == num_words - 1 else words[:, i]
        state = (state ^ word) * multiplier
        state ^= state >> shift
    return (state >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """Amount of the recorded data that lies on disk.

    Args:
        num_steps: Complete rows that every column has.
        num_strings: Complete lines of the string table.
        metadata_bytes: Bytes of metadata.
    """

    num_steps: int
    num_strings: int
    metadata_bytes: int


class RecordFile:
    """Reads the records of a store.

    Args:
        path: Folder of the store.
        version: Of the store's format; records of version 1 are handed out as `RECORD`, with no
            strings and no metadata to vouch for.
    """

    def __init__(self, path: Path, version: int) -> None:
        self.file = StoreFile(path / RECORDS_FILE)
        self._dtype = _DTYPES[version]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return self._dtype.itemsize

    def num_complete(self) -> int:
        """Number of records, checked or not, that are there in full."""
        return self.file.size() // self.record_bytes

    def read(self, first: int, last: int) -> np.ndarray:
        """Records [first, last), `RECORD` (last - first,)."""
        stored = np.empty(last - first, dtype=self._dtype)
        self.file.read_into(stored, first * self.record_bytes)
        return stored if self._dtype == RECORD else _as_record(stored)

    def read_field(self, name: str, num_records: int) -> np.ndarray:
        """One field of the first records, (num_records,)."""
        values = np.empty(num_records, dtype=RECORD[name].newbyteorder("="))
        for first, last in _chunks(num_records):
            values[first:last] = self.read(first, last)[name]
        return values

    def valid_lengths(self, num_records: int, on_disk: OnDisk) -> np.ndarray:
        """Steps of the episodes before the first whose record is not valid, int64 (N,)."""
        lengths = np.empty(num_records, dtype=np.int64)
        before = np.zeros(1, dtype=RECORD)[0]
        for first, last in _chunks(num_records):
            stored = np.empty(last - first, dtype=self._dtype)
            self.file.read_into(stored, first * self.record_bytes)
            good = stored["record_crc"] == record_checksums(stored, first)
            records = stored if self._dtype == RECORD else _as_record(stored)
            good &= _follow(records, before) & _lie_on_disk(records, on_disk)
            lengths[first:last] = records["length"]
            if not good.all():
                return lengths[: first + int(np.argmin(good))]
            before = records[-1]
        return lengths


def _as_record(stored: np.ndarray) -> np.ndarray:
    records = np.zeros(len(stored), dtype=RECORD)
    for name in RECORD_V1.names or ():
        records[name] = stored[name]
    return records


def _follow(records: np.ndarray, before: np.void) -> np.ndarray:
    """bool (N,): goes on where the record before it ended."""
    ends = records["start"] + records["length"]
    good = (records["length"] > 0) & (ends < 1 << 62)
    good[0] &= records["start"][0] == before["start"] + before["length"]
    good[1:] &= records["start"][1:] == ends[:-1]
    for name in ("num_strings", "metadata_end"):
        good[0] &= records[name][0] >= before[name]
        good[1:] &= records[name][1:] >= records[name][:-1]
    return good


def _lie_on_disk(records: np.ndarray, on_disk: OnDisk) -> np.ndarray:
    """bool (N,): everything that the record vouches for is there."""
    good = records["start"] + records["length"] <= on_disk.num_steps
    good &= records["num_strings"] <= on_disk.num_strings
    return good & (records["metadata_end"] <= on_disk.metadata_bytes)


def _chunks(num_records: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num_records, _CHUNK):
        yield first, min(first + _CHUNK, num_records)
