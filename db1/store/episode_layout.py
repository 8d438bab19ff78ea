"""The files of an episode store: names, header, and which episodes are complete.

A store is one folder for one task:

    header.json                  format, version, task, spec, environment, expert, noise, origin
    observations.<key>.bin       one row a step, raw little-endian, C order, nothing else
    observations.<key>.frames    with `image_format` png or zlib instead: compressed frames, and
    observations.<key>.ends.bin  uint64, where each frame ends
    actions.bin
    rewards.bin                  float32
    strings.jsonl                string table, one JSON string a line; text columns hold uint32 line
                                 numbers (only when the spec has text)
    strings.ends.bin             uint64, where each line ends
    metadata.jsonl               a line for each episode that has metadata (only when one has)
    episodes.bin                 one 56-byte record an episode (`records.RECORD`)

An episode of T steps that starts at step s owns the rows s..s+T-1 of every column. Its rows, new
strings and metadata are written before its record, so a record that is complete and valid vouches
for them, and whatever lies after the last valid record is left over from an interrupted write.

Version 1 (still read) has records of 40 bytes, raw images only, no metadata and no string ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from db1 import __version__
from db1.errors import DataError
from db1.json_shape import Number
from db1.store.columns import Column, columns_of
from db1.store.files import StoreFile
from db1.store.frames import IMAGE_FORMATS, RAW
from db1.store.header import HEADER_FILE, Header, broken, read_content
from db1.store.records import OnDisk, RecordFile
from db1.store.strings import StringTable
from db1.tokens.spec import StepSpec

logger = logging.getLogger(__name__)

VERSION = 2
METADATA_FILE = "metadata.jsonl"


_HEADER_SHAPE = {
    "task": str,
    "spec": dict,
    "environment": dict,
    "expert": (str, type(None)),
    "action_noise": Number,
    "max_steps": (int, type(None)),
    "origin?": dict,
    "image_format?": str,
    "created_by": str,
}


@dataclass(frozen=True, kw_only=True)
class StoreHeader(Header):
    """Content and origin of a store.

    Args:
        task: Task id, `suite/task`.
        spec: Fields of one step.
        environment: JSON-able description of the environment (ids, versions, horizon).
        expert: Name of the expert that acted; None for imported data without one.
        action_noise: Noise on the executed (not on the recorded) actions.
        max_steps: Steps after which a demonstration was cut off; None: none was.
        origin: Where imported data came from (file or dataset, version, licence); JSON-able.
        image_format: How image frames lie on disk: `raw`, `png` or `zlib` (frames.py).
        created_by: Program and version that made the store.
        version: Of the format.

    Raises:
        DataError: An unknown image format.
    """

    FORMAT: ClassVar[str] = "db1-episodes"

    task: str
    spec: StepSpec
    environment: Mapping[str, Any] = field(default_factory=dict)
    expert: str | None = None
    action_noise: float = 0.0
    max_steps: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    image_format: str = RAW
    created_by: str = f"db1 {__version__}"
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.image_format not in IMAGE_FORMATS:
            raise DataError(
                f"image_format: got {self.image_format!r}, expected one of {IMAGE_FORMATS}"
            )

    def label(self) -> str:
        """See `Header`."""
        return self.task

    def content(self) -> dict[str, Any]:
        """See `Header`."""
        return super().content() | {
            "spec": self.spec.to_dict(),
            "environment": dict(self.environment),
            "origin": dict(self.origin),
        }


def read_header(path: Path) -> StoreHeader:
    """Reads header.json of the store in folder `path`.

    Raises:
        DataError: Not a store, another format, or a newer version.
    """
    missing = (
        f"{path}: no episode store (it has no {HEADER_FILE}); `db1 collect` or `db1 import` "
        "makes one"
    )
    content = {"origin": {}, "image_format": RAW} | read_content(
        path, StoreHeader, VERSION, _HEADER_SHAPE, missing
    )
    try:
        content = {f.name: content[f.name] for f in fields(StoreHeader)}
        return StoreHeader(**content | {"spec": StepSpec.from_dict(content["spec"])})
    except (DataError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise broken(path, error) from None


class StoreFiles:
    """All files of one store, opened for reading.

    Args:
        path: Folder of the store.
        header: Its header.
    """

    def __init__(self, path: Path, header: StoreHeader) -> None:
        self.path = path
        self.strings = StringTable(path, has_ends=header.version > 1)
        self.columns: dict[str, Column] = columns_of(
            path, header.spec, header.image_format, self.strings
        )
        self.records = RecordFile(path, header.version)
        self.metadata = StoreFile(path / METADATA_FILE)
        self.has_text = any(field.kind == "text" for field in header.spec.observation.values())

    def paths(self) -> list[Path]:
        """Paths of the files, those of the records last."""
        files = [file for column in self.columns.values() for file in column.files]
        files += [self.strings.lines_file, self.strings.ends.file, self.metadata]
        return [file.path for file in [*files, self.records.file]]

    def valid_lengths(self, *, repair: bool = False) -> np.ndarray:
        """Steps of the complete episodes, int64 (num_episodes,).

        A killed writer leaves at most a part of a record (ignored here); a power cut may also
        spoil the last record, which is left out with a warning. More is damage.

        Args:
            repair: Take the leading valid records of a damaged store.

        Raises:
            DataError: More than the last record is damaged or lacks what it vouches for.
        """
        num_records = self.records.num_complete()  # before the rest: a writer may be at work
        lengths = self.records.valid_lengths(num_records, self._on_disk())
        num_lost = num_records - len(lengths)
        if num_lost > 1 and not repair:
            raise DataError(
                f"{self.path}: truncated or damaged: the first {len(lengths)} of {num_records} "
                "episodes are complete; make the store again, or open it once with "
                "EpisodeWriter(repair=True) to keep those"
            )
        if num_lost:
            logger.warning("%s: left out %d incomplete episode(s) at the end", self.path, num_lost)
        elif self._has_rest(num_records, int(lengths.sum())):
            logger.warning("%s: left out steps without a record at the end", self.path)
        if not num_records and not self.records.file.path.exists() and self._has_rows():
            raise DataError(
                f"{self.path}: {self.records.file.path.name} is missing; make the store again"
            )
        return lengths

    def _has_rest(self, num_records: int, num_steps: int) -> bool:
        """Tells whether part of an episode follows the last record while no writer is at work."""
        size = self.records.file.size()
        if size // self.records.record_bytes != num_records:
            return False
        return size % self.records.record_bytes > 0 or self.num_rows() > num_steps

    def num_rows(self) -> int:
        """Complete rows that every column has, with a record or without."""
        return min(column.num_steps() for column in self.columns.values())

    def _on_disk(self) -> OnDisk:
        return OnDisk(
            num_steps=self.num_rows(),
            num_strings=self.strings.ends.num_complete(),
            metadata_bytes=self.metadata.size(),
        )

    def _has_rows(self) -> bool:
        return any(file.path.exists() for c in self.columns.values() for file in c.files)
