"""The open files of one writer: locked, cut to what is complete, taken back on failure."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

from db1.errors import DataError
from db1.store.files import cut, open_for_append

logger = logging.getLogger(__name__)


class AppendFiles:
    """Appends to several files of one folder.

    Args:
        path: Folder of the store.
        lock: File that the writer locks; opened first.

    Raises:
        DataError: Another writer holds the lock.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path = path
        self._files: dict[Path, FileIO] = {}
        self._lock(self._file(lock))

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to write to."""
        return bool(self._files)

    def cut(self, path: Path, size: int) -> None:
        """Drops what lies behind `size` bytes of a file; makes the file where there is none."""
        cut(self._file(path), size)

    def write(self, path: Path, content: bytes) -> None:
        """Appends all bytes (one system call may write a part only)."""
        file, view = self._file(path), memoryview(content)
        while view:
            view = view[file.write(view) :]

    def ends(self) -> dict[Path, int]:
        """Where each file ends now."""
        return {path: file.tell() for path, file in self._files.items()}

    def take_back(self, ends: Mapping[Path, int]) -> None:
        """Cuts the files to earlier ends; lets them all go when even that fails."""
        try:
            for path, file in self._files.items():
                cut(file, ends.get(path, 0))
        except OSError:
            self.release()

    def close(self) -> None:
        """Syncs the files to the disk and lets them go."""
        try:
            for file in self._files.values():
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self._path}: cannot sync the store: {error}") from error
        finally:
            self.release()

    def release(self) -> None:
        """Lets the files go as they are."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _file(self, path: Path) -> FileIO:
        if path not in self._files:
            self._files[path] = open_for_append(path)
        return self._files[path]

    def _lock(self, file: FileIO) -> None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise DataError(
                f"{self._path}: another writer holds this store; wait until it ends"
            ) from None
        except OSError as error:
            logger.warning(
                "%s: the file system has no locks (%s); run one writer only", self._path, error
            )
