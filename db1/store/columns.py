"""The columns of an episode store: one row a step, in files that only grow.

    RawColumn      name.bin         the rows, little-endian, C order, nothing else
    TextColumn     name.bin         uint32 numbers of lines in the string table (strings.py)
    FrameColumn    name.frames      compressed frames, one after the other (frames.py)
                   name.ends.bin    uint64, where each frame ends

See `episode_layout.py` for the other files.
"""

from __future__ import annotations

import math
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import quote

import numpy as np

from db1.errors import DataError
from db1.store.files import Ends, StoreFile
from db1.store.frames import FRAME_CODECS, RAW, FrameCodec, decode_frame, encode_frame
from db1.store.strings import StringTable, json_line
from db1.tokens.spec import FieldSpec, StepSpec

_CHUNK_BYTES = 1 << 22
_TEXT_CHUNK = 4_096


class Column(ABC):
    """One column of a store.

    Attributes:
        files: The column's files, in the order in which an append must write them.
        row_bytes: Bytes that a chunk of rows is sized by: those of a decoded row.
    """

    files: tuple[StoreFile, ...]
    row_bytes: int

    @abstractmethod
    def num_steps(self) -> int:
        """Number of complete rows on disk."""

    @abstractmethod
    def sizes(self, num_steps: int) -> tuple[int, ...]:
        """Bytes of each file that hold the first `num_steps` rows."""

    @abstractmethod
    def encode(self, rows: np.ndarray, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
        """Bytes that rows (N, *shape) append to each file, whose sizes are given."""

    @abstractmethod
    def read(self, first: int, last: int) -> np.ndarray:
        """Rows [first, last) in a fresh array (last - first, *shape)."""

    @abstractmethod
    def update_crc(self, crc: int, first: int, last: int) -> int:
        """Continues a CRC-32 over the rows [first, last) as they are stored (text: its lines)."""

    @abstractmethod
    def crc_of_encoded(self, crc: int, rows: np.ndarray, encoded: tuple[bytes, ...]) -> int:
        """Continues a CRC-32 over rows (texts, not numbers) that encode to `encoded`."""

    def chunk_steps(self) -> int:
        """Number of rows that take about 4 MiB."""
        return max(1, _CHUNK_BYTES // max(1, self.row_bytes))


class RawColumn(Column):
    """Rows of fixed size.

    Args:
        path: Folder of the store.
        name: Column name.
        dtype: Of the stored values.
        row_shape: Shape of one row.
    """

    def __init__(self, path: Path, name: str, dtype: np.dtype, row_shape: tuple[int, ...]) -> None:
        self.file = StoreFile(path / f"{quote(name, safe=' ')}.bin")
        self.files = (self.file,)
        self.dtype = dtype.newbyteorder("<")
        self.row_shape = row_shape
        self.row_bytes = dtype.itemsize * math.prod(row_shape)

    def num_steps(self) -> int:
        if self.row_bytes == 0:
            return np.iinfo(np.int64).max
        return self.file.size() // self.row_bytes

    def sizes(self, num_steps: int) -> tuple[int, ...]:
        return (num_steps * self.row_bytes,)

    def encode(self, rows: np.ndarray, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
        # (N, *row_shape) -> its bytes
        return (np.ascontiguousarray(rows, dtype=self.dtype).tobytes(),)

    def read(self, first: int, last: int) -> np.ndarray:  # (last - first, *row_shape)
        rows = np.empty((last - first, *self.row_shape), dtype=self.dtype)
        self.file.read_into(rows, first * self.row_bytes)
        return rows if self.dtype.isnative else rows.astype(self.dtype.newbyteorder("="))

    def update_crc(self, crc: int, first: int, last: int) -> int:
        step = self.chunk_steps()
        for start in range(first, last, step) if self.row_bytes else ():
            num_rows = min(step, last - start)
            content = self.file.read(start * self.row_bytes, num_rows * self.row_bytes)
            crc = zlib.crc32(content, crc)
        return crc

    def crc_of_encoded(self, crc: int, rows: np.ndarray, encoded: tuple[bytes, ...]) -> int:
        return zlib.crc32(encoded[0], crc)


class TextColumn(RawColumn):
    """Texts, stored as numbers of lines; `encode` takes the numbers instead of the texts.

    Args:
        path: Folder of the store.
        name: Column name.
        row_shape: Shape of one row.
        strings: The store's string table.
    """

    def __init__(
        self, path: Path, name: str, row_shape: tuple[int, ...], strings: StringTable
    ) -> None:
        super().__init__(path, name, np.dtype("<u4"), row_shape)
        self.strings = strings

    def read(self, first: int, last: int) -> np.ndarray:  # object (last - first, *row_shape)
        numbers = self.read_numbers(first, last)
        texts = np.empty(numbers.size, dtype=object)
        texts[:] = [self.strings.text(number) for number in numbers.ravel().tolist()]
        return texts.reshape(numbers.shape)

    def read_numbers(self, first: int, last: int) -> np.ndarray:
        """Line numbers of the rows [first, last), uint32 (last - first, *shape)."""
        return super().read(first, last)

    def check_numbers(self, numbers: np.ndarray, num_strings: int) -> None:
        """Raises DataError unless a string table of `num_strings` lines holds numbers (N, ...)."""
        if numbers.size and numbers.max() >= num_strings:
            raise DataError(
                f"{self.strings.lines_file.path}: {num_strings} strings, {self.file.path.name} "
                f"names string {numbers.max()}; the store is damaged, make it again"
            )

    def crc_of_encoded(self, crc: int, rows: np.ndarray, encoded: tuple[bytes, ...]) -> int:
        lines = {text: json_line(text) for text in rows.flat}
        return zlib.crc32(b"".join([lines[text] for text in rows.flat]), crc)

    def update_crc(self, crc: int, first: int, last: int) -> int:
        for start in range(first, last, _TEXT_CHUNK):
            numbers = self.read_numbers(start, min(start + _TEXT_CHUNK, last)).ravel().tolist()
            lines = {number: self.strings.line(number) for number in set(numbers)}
            crc = zlib.crc32(b"".join([lines[number] for number in numbers]), crc)
        return crc


class FrameColumn(Column):
    """Compressed image frames.

    Args:
        path: Folder of the store.
        name: Column name.
        shape: (height, width, channels) of a frame.
        codec: How a frame is stored.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], codec: FrameCodec) -> None:
        stem = quote(name, safe=" ")
        self.file = StoreFile(path / f"{stem}.frames")
        self.ends = Ends(path / f"{stem}.ends.bin", self.file)
        self.files = (self.file, self.ends.file)
        self.shape = shape
        self.row_bytes = math.prod(shape)
        self._codec = codec

    def num_steps(self) -> int:
        return self.ends.num_complete()

    def sizes(self, num_steps: int) -> tuple[int, ...]:
        return (self.ends[num_steps - 1], num_steps * 8)

    def encode(self, rows: np.ndarray, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
        frames = [encode_frame(self._codec, row) for row in rows]
        ends = sizes[0] + np.cumsum([len(frame) for frame in frames])
        return b"".join(frames), ends.astype("<u8").tobytes()

    def read(self, first: int, last: int) -> np.ndarray:  # uint8 (last - first, *shape)
        rows = np.empty((last - first, *self.shape), dtype=np.uint8)
        if last == first:
            return rows
        bounds = self._bounds(first, last)
        content = self.file.read(bounds[0], bounds[-1] - bounds[0])
        for i in range(last - first):
            frame = content[bounds[i] - bounds[0] : bounds[i + 1] - bounds[0]]
            decode_frame(self._codec, frame, rows[i], f"{self.file.path} frame {first + i}")
        return rows

    def update_crc(self, crc: int, first: int, last: int) -> int:
        chunks = [
            (i, min(i + self.chunk_steps(), last)) for i in range(first, last, self.chunk_steps())
        ]
        for start, stop in chunks:
            bounds = self._bounds(start, stop)
            crc = zlib.crc32(self.file.read(bounds[0], bounds[-1] - bounds[0]), crc)
        for start, stop in chunks:
            crc = zlib.crc32(self.ends.bounds(start, stop)[1:], crc)
        return crc

    def crc_of_encoded(self, crc: int, rows: np.ndarray, encoded: tuple[bytes, ...]) -> int:
        return zlib.crc32(encoded[1], zlib.crc32(encoded[0], crc))

    def _bounds(self, first: int, last: int) -> list[int]:
        bounds = self.ends.bounds(first, last)
        most = (last - first) * (2 * self.row_bytes + 1_024)  # no lossless code grows that much
        if (bounds[1:] < bounds[:-1]).any() or bounds[-1] - bounds[0] > most:
            raise DataError(
                f"{self.ends.file.path}: the frames {first}..{last - 1} do not follow each other; "
                "the store is damaged, make it again"
            )
        return bounds.tolist()


def columns_of(
    path: Path, spec: StepSpec, image_format: str, strings: StringTable
) -> dict[str, Column]:
    """Returns the columns of a store in checksum order; keys `observations.<key>`, ... .

    Args:
        path: Folder of the store.
        spec: Fields of a step.
        image_format: One of `frames.IMAGE_FORMATS`.
        strings: The store's string table.
    """

    def column(name: str, field: FieldSpec) -> Column:
        if field.kind == "text":
            return TextColumn(path, name, field.shape, strings)
        if field.kind == "image" and image_format != RAW and field.size > 0:
            return FrameColumn(path, name, field.shape, FRAME_CODECS[image_format])
        return RawColumn(path, name, field.dtype, field.shape)

    columns = {
        f"observations.{key}": column(f"observations.{key}", spec.observation[key])
        for key in spec.observation
    }
    columns["actions"] = column("actions", spec.action)
    columns["rewards"] = RawColumn(path, "rewards", np.dtype(np.float32), ())
    return columns
