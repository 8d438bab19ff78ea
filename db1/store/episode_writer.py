"""The writer of an episode store."""

from __future__ import annotations

import fcntl
import logging
import os
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.store.columns import TextColumn
from db1.store.episode_arrays import checked_arrays, metadata_line
from db1.store.episode_layout import (
    HEADER_FILE,
    VERSION,
    StoreFiles,
    StoreHeader,
    read_header,
    write_header,
)
from db1.store.files import cut, open_for_append
from db1.store.records import HAS_SUCCESS, RECORD, SUCCESS, TERMINATED, record_checksums
from db1.store.strings import StringNumbers, json_line
from db1.tokens.spec import Episode

logger = logging.getLogger(__name__)


class EpisodeWriter:
    """Appends episodes to a store; makes it, or goes on where an earlier writer stopped.

    An episode's rows reach the operating system before its record does, so a process that is
    killed at any moment loses at most the episode that it was writing; the next writer cuts what
    is left of it. `close` syncs the files to the disk. One writer at a time holds a store.

    Args:
        path: Folder of the store.
        header: Must equal the existing store's (except `created_by` and `version`).
        forbidden_seeds: Seeds that no stored episode may have (the evaluation seeds).
        repair: Keep the leading valid episodes of a damaged store instead of refusing it.

    Raises:
        DataError: Another header, a foreign or damaged store, one of version 1, or a second
            writer.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: StoreHeader,
        *,
        forbidden_seeds: range | None = None,
        repair: bool = False,
    ) -> None:
        self.path = Path(path)
        self.header = header
        self._forbidden_seeds = forbidden_seeds
        self._stored = StoreFiles(self.path, header)
        self._files: dict[Path, FileIO] = {}
        try:
            _prepare_folder(self._stored, header)
            self._open(repair)
        except OSError as error:
            self._release()
            raise DataError(f"{self.path}: cannot write the store: {error}") from error
        except DataError:
            self._release()
            raise

    @property
    def num_episodes(self) -> int:
        """Number of complete episodes in the store."""
        return self._num_episodes

    @property
    def num_steps(self) -> int:
        """Number of steps in the complete episodes."""
        return self._num_steps

    def append(self, episode: Episode) -> None:
        """Checks one episode and adds it with its metadata.

        Args:
            episode: Whole episode; observations and actions as `header.spec` says.

        Raises:
            DataError: The episode does not fit the spec, its seed is forbidden, or the disk is
                full (everything appended before stays complete, and appending may be retried).
        """
        where = f"{self.header.task} episode {self._num_episodes}"
        if not self._files:
            raise DataError(f"{self.path}: the writer is closed")
        arrays = checked_arrays(episode, self.header.spec, where)
        metadata = metadata_line(episode.metadata, where)
        self._check_seed(episode.seed, where)
        ends = {path: file.tell() for path, file in self._files.items()}
        new_strings = self._numbers.add(
            text
            for name, column in self._stored.columns.items()
            if isinstance(column, TextColumn)
            for text in arrays[name].flat
        )
        try:
            self._write(arrays, metadata, episode, new_strings)
        except OSError as error:
            self._undo(ends, new_strings)
            raise DataError(
                f"{self.path}: cannot write episode {self._num_episodes}: {error}; the "
                f"{self._num_episodes} episodes before it are complete; free space and go on"
            ) from error
        except BaseException:  # an interrupt: the caller may go on appending
            self._undo(ends, new_strings)
            raise
        self._num_episodes += 1
        self._num_steps += len(episode)
        self._numbers.forget_old()

    def close(self) -> None:
        """Syncs the files to the disk and lets the store go."""
        try:
            for file in self._files.values():
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: cannot sync the store: {error}") from error
        finally:
            self._release()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, repair: bool) -> None:
        """Opens every file, locks the store, and cuts what no valid record vouches for."""
        stored = self._stored
        _lock(self._file(stored.records.file.path), self.path)
        lengths = stored.valid_lengths(repair=repair)
        self._num_episodes = len(lengths)
        self._num_steps = int(lengths.sum())
        last = np.zeros(1, dtype=RECORD)
        if self._num_episodes:
            last = stored.records.read(self._num_episodes - 1, self._num_episodes)
        self._cut(stored.records.file.path, self._num_episodes * RECORD.itemsize)
        for column in stored.columns.values():
            for file, size in zip(column.files, column.sizes(self._num_steps), strict=True):
                self._cut(file.path, size)
        num_strings = int(last["num_strings"][0])
        if stored.has_text:
            self._cut(stored.strings.lines_file.path, stored.strings.ends[num_strings - 1])
            self._cut(stored.strings.ends.file.path, num_strings * 8)
        if stored.metadata.path.exists():
            self._cut(stored.metadata.path, int(last["metadata_end"][0]))
        self._numbers = StringNumbers(stored.strings, num_strings)

    def _file(self, path: Path) -> FileIO:
        """The open file at `path`; opened, at its end, when it is needed first."""
        if path not in self._files:
            self._files[path] = open_for_append(path)
        return self._files[path]

    def _cut(self, path: Path, size: int) -> None:
        cut(self._file(path), size)

    def _check_seed(self, seed: int, where: str) -> None:
        if not -(2**63) <= seed < 2**63:
            raise DataError(f"{where}: seed {seed} does not fit 64 bits")
        forbidden = self._forbidden_seeds
        if forbidden is not None and seed in forbidden:
            raise DataError(
                f"{where}: seed {seed} lies in the forbidden range "
                f"[{forbidden.start}, {forbidden.stop}) of evaluation; use another seed"
            )

    def _write(
        self,
        arrays: Mapping[str, np.ndarray],
        metadata: bytes,
        episode: Episode,
        new_strings: list[str],
    ) -> None:
        self._write_strings(new_strings)
        crc = 0
        for name, column in self._stored.columns.items():
            files = [self._file(file.path) for file in column.files]
            is_text = isinstance(column, TextColumn)
            rows = self._numbers.numbers(arrays[name]) if is_text else arrays[name]
            encoded = column.encode(rows, tuple(file.tell() for file in files))
            for file, content in zip(files, encoded, strict=True):
                _write_all(file, content)
            crc = column.crc_of_encoded(crc, arrays[name], encoded)
        if metadata:
            _write_all(self._file(self._stored.metadata.path), metadata)
        record = np.zeros(1, dtype=RECORD)
        record["start"], record["length"] = self._num_steps, len(episode)
        record["flags"] = _flags(episode)
        record["return"], record["seed"] = episode.total_reward, episode.seed
        record["num_strings"] = self._numbers.num_strings
        metadata_file = self._files.get(self._stored.metadata.path)
        record["metadata_end"] = metadata_file.tell() if metadata_file else 0
        record["column_crc"] = zlib.crc32(metadata, crc)
        record["record_crc"] = record_checksums(record, first=self._num_episodes)
        _write_all(self._file(self._stored.records.file.path), record.tobytes())

    def _write_strings(self, new_strings: list[str]) -> None:
        if not new_strings:
            return
        table = self._stored.strings
        lines = [json_line(text) for text in new_strings]
        lines_file = self._file(table.lines_file.path)
        ends = lines_file.tell() + np.cumsum([len(line) for line in lines])
        _write_all(lines_file, b"".join(lines))
        _write_all(self._file(table.ends.file.path), ends.astype("<u8").tobytes())

    def _undo(self, ends: Mapping[Path, int], new_strings: list[str]) -> None:
        """Takes back a half-written episode; closes the writer when even that fails."""
        self._numbers.take_back(new_strings)
        try:
            for path, file in self._files.items():
                cut(file, ends.get(path, 0))
        except OSError:
            self._release()

    def _release(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}


def _prepare_folder(stored: StoreFiles, header: StoreHeader) -> None:
    """Makes the folder and its header, or checks that the existing header is the same."""
    path = stored.path
    if (path / HEADER_FILE).exists():
        existing = read_header(path)
        found = existing.difference(header)
        if found:
            raise DataError(
                f"{path}: the store was made with another header ({found}); write to another folder"
            )
        if existing.version != VERSION:
            raise DataError(
                f"{path}: a store of version {existing.version}, which this db1 reads but does not "
                "append to; copy it with db1.store.conversion.convert_store, or write to another "
                "folder"
            )
        return
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: a file, expected a folder for the store")
    for file in stored.paths():
        if file.exists():
            raise DataError(f"{file} exists without a {HEADER_FILE}; write to another folder")
    write_header(path, header)


def _flags(episode: Episode) -> int:
    flags = TERMINATED if episode.terminated else 0
    if episode.success is not None:
        flags |= HAS_SUCCESS | (SUCCESS if episode.success else 0)
    return flags


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{path}: another writer holds this store; wait until it ends") from None
    except OSError as error:
        logger.warning("%s: the file system has no locks (%s); run one writer only", path, error)


def _write_all(file: FileIO, content: bytes) -> None:
    """Writes all bytes at the file's position (one call may write a part only)."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
