"""The writer of a store of images with texts."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from db1.store.append import StoreWriter
from db1.store.header import HEADER_FILE
from db1.store.pair_layout import (
    IMAGE_RECORD,
    PAIR_RECORD,
    PairFiles,
    PairHeader,
    read_header,
)
from db1.store.pair_lines import Pair, pair_line, parse_line
from db1.store.records import record_checksums
from db1.tokens.image_file import ImageFile


class PairWriter(StoreWriter):
    """Appends pairs to a store; makes it, or goes on where an earlier writer stopped.

    Args:
        path: Folder of the store.
        header: Must equal the existing store's (except `created_by` and `version`).
        repair: Keep the leading valid pairs of a damaged store instead of refusing it.

    Raises:
        DataError: Another header, a foreign or damaged store, or a second writer.
    """

    NOUN = "pair"

    def __init__(
        self, path: str | os.PathLike[str], header: PairHeader, *, repair: bool = False
    ) -> None:
        self.header = header
        self._stored = PairFiles(Path(path))
        super().__init__(self._stored, header, self._existing, repair)

    @property
    def num_pairs(self) -> int:
        """Number of complete pairs in the store."""
        return self._num_pairs

    @property
    def num_images(self) -> int:
        """Number of images that they share."""
        return self._num_images

    def has_image(self, name: str) -> bool:
        """Tells whether the store has an image of this name."""
        return name in self._numbers

    def append(self, pair: Pair, image: bytes) -> None:
        """Checks one pair and adds it.

        Args:
            pair: Its texts; as the header's kind says.
            image: The compressed image; plays no part where the store has an image of the name
                `pair.image_name` already.

        Raises:
            DataError: The pair does not fit the kind, its image is broken, or the disk is full
                (everything appended before stays complete, and appending may be retried).
        """
        where = f"{self.header.name}/{self.header.split} pair {self._num_pairs}"
        self._check_open()
        line = pair_line(pair, self.header.kind, where)
        number = self._numbers.get(pair.image_name)
        content, record = b"", None
        if number is None:
            content = image
            record = self._image_record(content, f"{where}, image {pair.image_name}")
        with self._whole(self._num_pairs):
            self._write(line, pair.num_texts, number, content, record)
        if number is None:
            self._numbers[pair.image_name] = self._num_images
            self._num_images += 1
            self._image_end += len(content)
        self._line_end += len(line)
        self._num_pairs += 1

    def _existing(self) -> PairHeader | None:
        return read_header(self.path) if (self.path / HEADER_FILE).exists() else None

    def _open(self, repair: bool) -> None:
        """Cuts what no valid record vouches for, and learns the names of the images."""
        stored = self._stored
        self._num_pairs = stored.num_pairs(repair=repair)
        self._num_images = self._image_end = self._line_end = 0
        if self._num_pairs:
            last = stored.read_pairs(self._num_pairs - 1, self._num_pairs)[0]
            self._num_images, self._line_end = int(last["num_images"]), int(last["line_end"])
            self._image_end = int(
                stored.read_images(self._num_images - 1, self._num_images)[0]["end"]
            )
        sizes = (
            self._image_end,
            self._num_images * IMAGE_RECORD.itemsize,
            self._line_end,
            self._num_pairs * PAIR_RECORD.itemsize,
        )
        for path, size in zip(stored.paths(), sizes, strict=True):
            self._files.cut(path, size)
        self._numbers = self._image_numbers()

    def _image_numbers(self) -> dict[str, int]:
        """Number of each image by its name, from the lines of the pairs that brought them."""
        stored, numbers = self._stored, {}
        images = stored.read_pair_field("image", self._num_pairs)
        ends = stored.read_pair_field("line_end", self._num_pairs).astype(np.int64)
        _, first_pairs = np.unique(images, return_index=True)
        for pair in first_pairs.tolist():
            start = int(ends[pair - 1]) if pair else 0
            line = stored.lines.read(start, int(ends[pair]) - start)
            where = f"{stored.lines.path} line {pair + 1}"
            numbers[parse_line(line, where).image_name] = int(images[pair])
        return numbers

    def _image_record(self, content: bytes, where: str) -> np.ndarray:
        info = ImageFile(content, where).info
        record = np.zeros(1, dtype=IMAGE_RECORD)
        record["end"] = self._image_end + len(content)
        record["width"], record["height"] = info.width, info.height
        record["crc"] = zlib.crc32(content)
        record["record_crc"] = record_checksums(record, first=self._num_images)
        return record

    def _write(
        self,
        line: bytes,
        num_texts: int,
        image: int | None,
        content: bytes,
        image_record: np.ndarray | None,
    ) -> None:
        images, image_records, lines, pair_records = self._stored.paths()
        record = np.zeros(1, dtype=PAIR_RECORD)
        record["image"] = self._num_images if image is None else image
        record["num_images"] = self._num_images
        if image_record is not None:
            self._files.write(images, content)
            self._files.write(image_records, image_record.tobytes())
            record["num_images"] += 1
        self._files.write(lines, line)
        record["line_end"] = self._line_end + len(line)
        record["num_texts"] = num_texts
        record["line_crc"] = zlib.crc32(line)
        record["record_crc"] = record_checksums(record, first=self._num_pairs)
        self._files.write(pair_records, record.tobytes())
