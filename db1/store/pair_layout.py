"""The files of a store of images with texts: names, header, and which pairs are complete.

A set has a folder for each of its splits, and each split is a store of its own:

    <set>/train/  header.json    format, version, name, split, kind, origin
                  images.data    compressed images as they were given, end to end
                  images.bin     one 24-byte record an image: end, width, height, checksum
                  pairs.jsonl    one JSON line a pair, ASCII: image name, texts, metadata
                  pairs.bin      one 40-byte record a pair: image, images so far, end of line
    <set>/val/    ...

Several pairs may share an image (the questions about one photograph); its bytes lie there once.

Worked example: images of 5 and 3 bytes; two questions about the first, one about the second, with
lines of 40, 50 and 60 bytes.

    images.bin  end 5, 8               pairs.bin  image 0, 0, 1    num_images 1, 1, 2
                                                  line_end 40, 90, 150

A pair's image and line are written before its record, so a record that is complete and valid
vouches for them, and whatever lies after the last valid record is left over from an interrupted
write.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from db1 import __version__
from db1.errors import DataError, nearest
from db1.store.files import StoreFile
from db1.store.header import HEADER_FILE, Header, broken, read_content
from db1.store.records import record_checksums

logger = logging.getLogger(__name__)

VERSION = 1
CAPTION, QUESTION = "caption", "question"
KINDS = (CAPTION, QUESTION)

IMAGE_RECORD = np.dtype(
    [
        ("end", "<u8"),  # byte of images.data after the image
        ("width", "<u4"),
        ("height", "<u4"),
        ("crc", "<u4"),  # of its bytes
        ("record_crc", "<u4"),
    ]
)
PAIR_RECORD = np.dtype(
    [
        ("image", "<u8"),  # number of its image
        ("num_images", "<u8"),  # images up to this pair
        ("line_end", "<u8"),  # byte of pairs.jsonl after its line
        ("num_texts", "<u8"),  # captions or answers that are not empty
        ("line_crc", "<u4"),
        ("record_crc", "<u4"),
    ]
)
_CHUNK = 1 << 15


_HEADER_SHAPE = {"name": str, "split": str, "kind": str, "origin": dict, "created_by": str}


@dataclass(frozen=True, kw_only=True)
class PairHeader(Header):
    """Content and origin of the store of one split.

    Args:
        name: Of the set, as `coco`.
        split: `train`, `val`, `test` or another split of the set.
        kind: `caption` (texts describe the image) or `question` (texts answer the question).
        origin: Where the data came from (files, version, licence, options); JSON-able.
        created_by: Program and version that made the store.
        version: Of the format.

    Raises:
        DataError: An unknown kind.
    """

    FORMAT: ClassVar[str] = "db1-pairs"

    name: str
    split: str
    kind: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    created_by: str = f"db1 {__version__}"
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(
                f"kind: got {self.kind!r}, expected one of {list(KINDS)}{nearest(self.kind, KINDS)}"
            )

    def label(self) -> str:
        """See `Header`."""
        return self.name

    def content(self) -> dict[str, Any]:
        """See `Header`."""
        return super().content() | {"origin": dict(self.origin)}


def read_header(path: Path) -> PairHeader:
    """Reads header.json of the store in folder `path`.

    Raises:
        DataError: Not a store, another format, or a newer version.
    """
    missing = (
        f"{path}: no store of images with texts (it has no {HEADER_FILE}); `db1 import` makes "
        f"one{_splits_there(path)}"
    )
    content = read_content(path, PairHeader, VERSION, _HEADER_SHAPE, missing)
    try:
        return PairHeader(**{f.name: content[f.name] for f in fields(PairHeader)})
    except (KeyError, TypeError) as error:
        raise broken(path, error) from None


def pair_splits(path: Path) -> list[str]:
    """Names of the splits stored below the folder of a set, in order."""
    return sorted(header.parent.name for header in path.glob(f"*/{HEADER_FILE}"))


class PairFiles:
    """All files of one store, opened for reading.

    Args:
        path: Folder of the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = StoreFile(path / "images.data")
        self.image_records = StoreFile(path / "images.bin")
        self.lines = StoreFile(path / "pairs.jsonl")
        self.pair_records = StoreFile(path / "pairs.bin")

    def paths(self) -> list[Path]:
        """Paths of the files, that of the pairs' records last."""
        files = (self.images, self.image_records, self.lines, self.pair_records)
        return [file.path for file in files]

    def read_images(self, first: int, last: int) -> np.ndarray:
        """Records of the images [first, last), `IMAGE_RECORD` (last - first,)."""
        return _read(self.image_records, IMAGE_RECORD, first, last)

    def read_pairs(self, first: int, last: int) -> np.ndarray:
        """Records of the pairs [first, last), `PAIR_RECORD` (last - first,)."""
        return _read(self.pair_records, PAIR_RECORD, first, last)

    def read_pair_field(self, name: str, num_pairs: int) -> np.ndarray:
        """One field of the first records, (num_pairs,)."""
        parts = [
            self.read_pairs(first, min(first + _CHUNK, num_pairs))[name]
            for first in range(0, num_pairs, _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=PAIR_RECORD[name])

    def num_pairs(self, *, repair: bool = False) -> int:
        """Number of complete pairs.

        A killed writer leaves at most a part of a record (ignored here); a power cut may also
        spoil the last record, which is left out with a warning. More is damage.

        Args:
            repair: Take the leading valid pairs of a damaged store.

        Raises:
            DataError: More than the last record is damaged or lacks what it vouches for.
        """
        num_records = self.pair_records.size() // PAIR_RECORD.itemsize
        if not num_records and self.images.size() and not self.pair_records.path.exists():
            raise DataError(f"{self.pair_records.path} is missing; make the store again")
        num_images = self._num_valid_images()
        num_valid = self._num_valid_pairs(num_records, num_images)
        if num_valid == num_records and not repair:
            self._check_rest(num_valid, num_images)
        num_lost = num_records - num_valid
        if num_lost > 1 and not repair:
            raise DataError(
                f"{self.path}: truncated or damaged: the first {num_valid} of {num_records} pairs "
                "are complete; import them again, or open the store once with "
                "PairWriter(repair=True) to keep those"
            )
        if num_lost:
            logger.warning("%s: left out %d incomplete pair(s) at the end", self.path, num_lost)
        return num_valid

    def _check_rest(self, num_pairs: int, num_images: int) -> None:
        """A writer that was killed leaves one line and one image without a record, never more.

        Raises:
            DataError: More lie there: the records lost their end, or all of them.
        """
        last = self.read_pairs(num_pairs - 1, num_pairs)[0] if num_pairs else None
        end, images = (int(last["line_end"]), int(last["num_images"])) if num_pairs else (0, 0)
        rest = self.lines.read(end, min(self.lines.size() - end, _CHUNK * 8))
        num_lines = rest.count(b"\n")
        if self.pair_records.size() // PAIR_RECORD.itemsize > num_pairs:  # a writer is at work
            return
        if num_lines == 1 or num_images == images + 1:
            logger.warning("%s: left out a pair without a record at the end", self.path)
        if num_lines > 1 or num_images > images + 1:
            raise DataError(
                f"{self.pair_records.path}: {num_pairs} pairs, and at least {num_lines} lines and "
                f"{num_images - images} images lie behind them; it lost its end, make the store "
                "again, or open it once with PairWriter(repair=True) to keep those pairs"
            )

    def _num_valid_images(self) -> int:
        num_records = self.image_records.size() // IMAGE_RECORD.itemsize
        num_bytes, before = self.images.size(), 0
        for first in range(0, num_records, _CHUNK):
            records = self.read_images(first, min(first + _CHUNK, num_records))
            good = records["record_crc"] == record_checksums(records, first)
            good &= records["end"] <= num_bytes
            good &= records["end"] > np.append(np.uint64(before), records["end"][:-1])
            if not good.all():
                return first + int(np.argmin(good))
            before = int(records["end"][-1])
        return num_records

    def _num_valid_pairs(self, num_records: int, num_images: int) -> int:
        num_bytes, images_before, line_before = self.lines.size(), 0, 0
        for first in range(0, num_records, _CHUNK):
            records = self.read_pairs(first, min(first + _CHUNK, num_records))
            good = records["record_crc"] == record_checksums(records, first)
            good &= records["line_end"] <= num_bytes
            good &= records["line_end"] > np.append(
                np.uint64(line_before), records["line_end"][:-1]
            )
            good &= records["num_images"] <= num_images
            previous = np.append(np.uint64(images_before), records["num_images"][:-1])
            good &= (records["num_images"] >= previous) & (records["image"] < records["num_images"])
            if not good.all():
                return first + int(np.argmin(good))
            images_before = int(records["num_images"][-1])
            line_before = int(records["line_end"][-1])
        return num_records


def _read(file: StoreFile, dtype: np.dtype, first: int, last: int) -> np.ndarray:
    records = np.empty(last - first, dtype=dtype)
    file.read_into(records, first * dtype.itemsize)
    return records


def _splits_there(path: Path) -> str:
    splits = pair_splits(path)
    return f"; the splits {', '.join(splits)} lie below it, name one" if splits else ""
