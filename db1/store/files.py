"""Reading and appending the plain files of a store.

Readers use `pread`, not memory maps: resident memory stays at what a caller asked for, a file that
was cut shows up as a DataError instead of a bus error, and a disk's read error does too.
"""

from __future__ import annotations

import os
import resource
from functools import lru_cache
from io import FileIO
from pathlib import Path

import numpy as np

from db1.errors import DataError


def _max_open_files() -> int:
    """A quarter of what the process may open: mixtures of hundreds of stores share them."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4_096 if allowed == resource.RLIM_INFINITY else min(4_096, max(32, allowed // 4))


class _Descriptor:
    """A descriptor that closes when nobody holds it any more (a reader may, after eviction)."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=_max_open_files())
def _opened(path: str, device: int, inode: int) -> _Descriptor:
    """Opens a file; an open one keeps its inode, so the key never means another file."""
    descriptor = _Descriptor(path)
    status = os.fstat(descriptor.number)
    if (status.st_dev, status.st_ino) != (device, inode):
        raise DataError(f"{path}: the file was replaced while it was in use; open the store again")
    return descriptor


class StoreFile:
    """One file of a store, read in pieces; it need not exist (then it has no bytes).

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key: tuple[str, int, int] | None = None

    def size(self) -> int:
        """Bytes of the file at this moment."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return 0
        self._key = (str(self.path), status.st_dev, status.st_ino)
        return status.st_size

    def read_into(self, array: np.ndarray, offset: int) -> None:
        """Fills a C-contiguous array with the bytes from `offset` on.

        Raises:
            DataError: The file ends before, is gone, or cannot be read.
        """
        num_bytes = array.nbytes
        if num_bytes == 0:
            return
        try:
            if self._key is None:
                self.size()
            descriptor = _opened(*(self._key or (str(self.path), 0, 0)))
            done = os.preadv(descriptor.number, [array], offset)
            if done < num_bytes:
                self._read_rest(descriptor, array.reshape(-1).view(np.uint8), offset, done)
        except OSError as error:
            raise DataError(f"{self.path}: cannot read it: {error}") from None

    def read(self, offset: int, num_bytes: int) -> bytes:
        """Returns `num_bytes` bytes from `offset` on; raises DataError like `read_into`."""
        content = np.empty(num_bytes, dtype=np.uint8)
        self.read_into(content, offset)
        return content.tobytes()

    def _read_rest(
        self, descriptor: _Descriptor, content: np.ndarray, offset: int, done: int
    ) -> None:
        """Goes on after a short read: one call returns 2 GiB at most."""
        while done < len(content):
            part = os.preadv(descriptor.number, [content[done:]], offset + done)
            if part == 0:
                raise DataError(
                    f"{self.path}: {os.fstat(descriptor.number).st_size} bytes, expected at least "
                    f"{offset + len(content)}; the store is truncated or damaged, make it again"
                )
            done += part


class Ends:
    """A file of uint64: where each of a growing number of things ends in another file.

    Example: things of 3, 0 and 5 bytes have the ends [3, 3, 8]; thing 2 owns the bytes [3, 8).

    Args:
        path: Of the file of ends.
        content: The file that they point into.
    """

    def __init__(self, path: Path, content: StoreFile) -> None:
        self.file = StoreFile(path)
        self._content = content

    def __getitem__(self, number: int) -> int:
        """End of thing `number`; that of -1 is 0, where thing 0 starts."""
        return int(self.bounds(number + 1, number + 1)[0])

    def bounds(self, first: int, last: int) -> np.ndarray:
        """End of thing first - 1 and of the things [first, last), uint64 (last - first + 1,)."""
        bounds = np.zeros(last - first + 1, dtype="<u8")
        if first == 0:
            self.file.read_into(bounds[1:], 0)
        else:
            self.file.read_into(bounds, (first - 1) * 8)
        return bounds

    def num_complete(self) -> int:
        """Number of leading things that the other file holds in full."""
        content_bytes, low, high = self._content.size(), 0, self.file.size() // 8
        if high and self[high - 1] <= content_bytes:
            return high
        while low < high:  # ends grow, so the first one beyond the content is found by halving
            middle = (low + high) // 2
            if self[middle] <= content_bytes:
                low = middle + 1
            else:
                high = middle
        return low


def open_for_append(path: Path) -> FileIO:
    """Opens for unbuffered writing without cutting, and makes the file when there is none."""
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")


def cut(file: FileIO, size: int) -> None:
    """Drops what lies after `size` bytes and stands there."""
    file.truncate(size)
    file.seek(size)
