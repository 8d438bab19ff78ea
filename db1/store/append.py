"""The open files of one writer: locked, cut to what is complete, taken back on failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import ClassVar, TypeVar

from db1.errors import DataError
from db1.locks import try_lock
from db1.store.files import cut, open_for_append
from db1.store.header import Header, StoredFiles, prepare_folder

Writer = TypeVar("Writer", bound="StoreWriter")


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
        if not try_lock(self._file(lock).fileno(), path):
            self.release()
            raise DataError(f"{path}: another writer holds this store; wait until it ends")

    @property
    def is_open(self) -> bool:
        """Tells whether there is anything left to write to."""
        return bool(self._files)

    def cut(self, path: Path, size: int) -> None:
        """Drops what lies after `size` bytes of a file; makes the file where there is none."""
        cut(self._file(path), size)

    def write(self, path: Path, content: bytes) -> None:
        """Appends all bytes (one system call may write a part only)."""
        file, view = self._file(path), memoryview(content)
        while view:
            view = view[file.write(view) :]

    def end(self, path: Path) -> int:
        """Present end of a file; 0 when it was not opened."""
        return self._files[path].tell() if path in self._files else 0

    def ends(self) -> dict[Path, int]:
        """Present ends of all files."""
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


class StoreWriter:
    """Base of the writers of stores: one at a time, each record the last thing written.

    What a record vouches for reaches the operating system before it does, so a process that is
    killed at any moment loses at most the record that it was writing; the next writer cuts what is
    left of it. `close` syncs the files to the disk.

    Args:
        stored: The files of the store.
        header: Must equal the existing store's (except `created_by` and `version`).
        existing: Reads the existing store's header; None: there is none.
        repair: Keep the leading valid records of a damaged store instead of refusing it.

    Raises:
        DataError: Another header, a foreign or damaged store, or a second writer.
    """

    NOUN: ClassVar[str]
    """Kind of record, for errors."""

    def __init__(
        self,
        stored: StoredFiles,
        header: Header,
        existing: Callable[[], Header | None],
        repair: bool,
    ) -> None:
        self.path = stored.path
        files: AppendFiles | None = None
        try:
            prepare_folder(stored, header, existing())
            files = AppendFiles(self.path, lock=stored.paths()[-1])
            self._files = files
            self._open(repair)
        except BaseException as error:
            if files is not None:
                files.release()
            if isinstance(error, OSError):
                raise DataError(f"{self.path}: cannot write the store: {error}") from error
            raise

    def close(self) -> None:
        """Syncs the files to the disk and lets the store go."""
        self._files.close()

    def __enter__(self: Writer) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, repair: bool) -> None:
        """Cuts what no valid record vouches for."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if not self._files.is_open:
            raise DataError(f"{self.path}: the writer is closed")

    @contextmanager
    def _whole(self, number: int, undo: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Writes record `number` in full or not at all, also when it is interrupted."""
        ends = self._files.ends()
        try:
            yield
        except BaseException as error:  # an interrupt, too: the caller may go on appending
            undo()
            self._files.take_back(ends)
            if not isinstance(error, OSError):
                raise
            raise DataError(
                f"{self.path}: cannot write {self.NOUN} {number}: {error}; the {number} "
                f"{self.NOUN}s before it are complete; free space and run the same command again"
            ) from error
