"""Images with texts on disk: an append-only writer and a lazy reader.

The files are described in `pair_layout.py`, the writer is in `pair_writer.py`. Example:

    header = PairHeader(name="coco", split="train", kind="caption")
    with PairWriter(path / "train", header) as writer:
        writer.append(Pair(image_name="9.jpg", texts=("A plate of food.",)), jpeg)
    store = PairStore(path / "train")
    pair, jpeg = store.pair(0), store.image_of(0)
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.store.pair_layout import PairFiles, PairHeader, pair_splits, read_header
from db1.store.pair_lines import Pair, parse_line
from db1.store.pair_writer import PairWriter
from db1.tokens.image_file import ImageFile

__all__ = [
    "Pair",
    "PairCounts",
    "PairHeader",
    "PairStore",
    "PairWriter",
    "pair_splits",
]

Progress = Callable[[int, int], None]
"""Called with (what is done, all there is)."""
_CHUNK = 1 << 15
"""Records that are read at once."""


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Counts made by `PairStore.verify`.

    Args:
        num_pairs: Complete pairs.
        num_images: Images that they share.
        num_bytes: Bytes of the files that hold them.
    """

    num_pairs: int
    num_images: int
    num_bytes: int


class PairStore:
    """Reads a store lazily: opening checks the records only; a pair or an image is read when asked.

    Any number of processes may read while one writes; a store sees the pairs that were complete
    when it was opened. It pickles as its path and its number of pairs.

    Args:
        path: Folder of one split.

    Raises:
        DataError: Not a store, or a damaged one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open(None)

    @property
    def num_pairs(self) -> int:
        """Number of complete pairs."""
        return self._num_pairs

    @cached_property
    def num_images(self) -> int:
        """Number of images that the pairs share."""
        if not self._num_pairs:
            return 0
        last = self._files.read_pairs(self._num_pairs - 1, self._num_pairs)
        return int(last[0]["num_images"])

    def __len__(self) -> int:
        return self._num_pairs

    def image_numbers(self) -> np.ndarray:
        """Number of each pair's image, int64 (num_pairs,); a fresh array."""
        return self._files.read_pair_field("image", self._num_pairs).astype(np.int64)

    def num_texts(self) -> np.ndarray:
        """Captions or answers of each pair that are not empty, int64 (num_pairs,)."""
        return self._files.read_pair_field("num_texts", self._num_pairs).astype(np.int64)

    def pair(self, number: int) -> Pair:
        """Reads the texts of a pair.

        Raises:
            DataError: No such pair, or a damaged line.
        """
        start, record = self._pair_record(number)
        line = self._files.lines.read(start, int(record["line_end"]) - start)
        where = f"{self._files.lines.path} line {number + 1}"
        if zlib.crc32(line) != record["line_crc"]:
            raise DataError(f"{where}: wrong checksum; the store is damaged, make it again")
        return parse_line(line, where)

    def image_of(self, number: int) -> bytes:
        """Reads the compressed image of a pair; raises DataError like `image`."""
        _, record = self._pair_record(number)
        return self.image(int(record["image"]))

    def image(self, image: int) -> bytes:
        """Reads a compressed image by its own number.

        Raises:
            DataError: No such image, or damaged bytes.
        """
        if not 0 <= image < self.num_images:
            raise DataError(f"{self.path}: image {image}, expected 0..{self.num_images - 1}")
        records = self._files.read_images(max(0, image - 1), image + 1)
        start = int(records[0]["end"]) if image else 0
        content = self._files.images.read(start, int(records[-1]["end"]) - start)
        if zlib.crc32(content) != records[-1]["crc"]:
            raise DataError(
                f"{self.image_place(image)}: wrong checksum; the store is damaged, make it again"
            )
        return content

    def image_place(self, image: int) -> str:
        """Name of an image in errors."""
        return f"{self._files.images.path} image {image}"

    def image_sizes(self) -> np.ndarray:
        """Height and width of each image, upright, int64 (num_images, 2)."""
        records = self._files.read_images(0, self.num_images)
        return np.stack([records["height"], records["width"]], axis=1).astype(np.int64)

    def verify(self, progress: Progress | None = None, *, decode: bool = False) -> PairCounts:
        """Reads every pair and every image and checks them against their checksums.

        Args:
            progress: Called after each pair or image.
            decode: Also decode every image to its last pixel (milliseconds each).

        Raises:
            DataError: What is damaged first.
        """
        total = self.num_pairs + self.num_images
        for number in range(self.num_pairs):
            self.pair(number)
            if progress:
                progress(number + 1, total)
        for image in range(self.num_images):
            file = ImageFile(self.image(image), self.image_place(image))
            if decode:
                file.decode()
            if progress:
                progress(self.num_pairs + image + 1, total)
        return PairCounts(
            num_pairs=self.num_pairs, num_images=self.num_images, num_bytes=self.num_bytes
        )

    def digest(self) -> str:
        """SHA-256 (hex) of the header and of the records, which hold checksums of all else."""
        content = self.header.to_dict() | {"created_by": ""}
        found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for read, count in (
            (self._files.read_images, self.num_images),
            (self._files.read_pairs, self._num_pairs),
        ):
            for first in range(0, count, _CHUNK):
                found.update(read(first, min(first + _CHUNK, count)).tobytes())
        return found.hexdigest()

    @property
    def image_bytes(self) -> int:
        """Bytes of the compressed images together."""
        last = self.num_images
        return int(self._files.read_images(last - 1, last)[0]["end"]) if last else 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the files that hold the pairs, headers apart."""
        return sum(path.stat().st_size for path in self._files.paths())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "num_pairs": self._num_pairs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open(state["num_pairs"])

    def _open(self, num_pairs: int | None) -> None:
        """Opens the store with the pairs it has now, or with a number that was checked before."""
        self.header: PairHeader = read_header(self.path)
        self._files = PairFiles(self.path)
        self._num_pairs = self._files.num_pairs() if num_pairs is None else num_pairs

    def _pair_record(self, number: int) -> tuple[int, np.void]:
        """Start of a pair's line, and its record."""
        if not 0 <= number < self._num_pairs:
            raise DataError(f"{self.path}: pair {number}, expected 0..{self._num_pairs - 1}")
        records = self._files.read_pairs(max(0, number - 1), number + 1)
        return int(records[0]["line_end"]) if number else 0, records[-1]
