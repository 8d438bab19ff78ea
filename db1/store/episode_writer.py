"""The writer of an episode store."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.store.columns import (
    STRINGS_FILE,
    checked_arrays,
    column_crc,
    columns_of,
    json_lines,
    little_endian,
    read_strings,
)
from db1.store.episode_layout import (
    HAS_SUCCESS,
    HEADER_FILE,
    RECORD,
    RECORDS_FILE,
    SUCCESS,
    TERMINATED,
    StoreHeader,
    read_header,
    record_checksums,
    valid_records,
    write_header,
)
from db1.tokens.spec import Episode

logger = logging.getLogger(__name__)


class EpisodeWriter:
    """Appends episodes to a store; makes it, or goes on where an earlier writer stopped.

    An episode's rows reach the operating system before its record does, so a process that is
    killed at any moment loses at most the episode that it was writing; the next writer cuts what
    is left of it. `close` syncs the files to the disk. One writer at a time holds a store.

    Args:
        path: Folder of the store.
        header: Must equal the existing store's (except `created_by`).
        forbidden_seeds: Seeds that no stored episode may have (the evaluation seeds).
        repair: Keep the leading valid episodes of a damaged store instead of refusing it.

    Raises:
        DataError: Another header, a foreign or damaged store, or a second writer.
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
        self._columns = columns_of(self.path, header.spec)
        self._text_keys = [name for name, column in self._columns.items() if column.is_text]
        self._files: dict[str, FileIO] = {}
        try:
            _prepare_folder(self.path, header)
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
        """Checks one episode and adds it; `metadata` is not stored.

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
        self._check_seed(episode.seed, where)
        ends = {name: file.tell() for name, file in self._files.items()}
        new_strings = self._new_strings(arrays)
        try:
            self._write(arrays, episode, new_strings)
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
        self._files["records"] = _open_file(self.path / RECORDS_FILE)
        _lock(self._files["records"], self.path)
        records = valid_records(self.path, self.header, repair=repair)
        self._num_episodes = len(records)
        self._num_steps = int(records["length"].sum(dtype=np.int64))
        _cut(self._files["records"], self._num_episodes * RECORD.itemsize)
        strings, num_bytes = read_strings(self.path) if self._text_keys else ([], 0)
        self._string_ids = {text: i for i, text in enumerate(strings)}
        for name, column in self._columns.items():
            self._files[name] = _open_file(column.path)
            _cut(self._files[name], self._num_steps * column.row_bytes)
        if self._text_keys:
            self._files["strings"] = _open_file(self.path / STRINGS_FILE)
            _cut(self._files["strings"], num_bytes)
            self._check_strings(len(strings))

    def _check_seed(self, seed: int, where: str) -> None:
        if not -(2**63) <= seed < 2**63:
            raise DataError(f"{where}: seed {seed} does not fit 64 bits")
        forbidden = self._forbidden_seeds
        if forbidden is not None and seed in forbidden:
            raise DataError(
                f"{where}: seed {seed} lies in the forbidden range "
                f"[{forbidden.start}, {forbidden.stop}) of evaluation; use another seed"
            )

    def _check_strings(self, num_strings: int) -> None:
        for name in self._text_keys:
            column = self._columns[name]
            ids = column.map()
            if ids.size and ids.max() >= num_strings:
                raise DataError(
                    f"{self.path / STRINGS_FILE}: {num_strings} strings, {column.path.name} names "
                    f"string {ids.max()}; the store is truncated, make it again"
                )

    def _new_strings(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        seen = dict.fromkeys(text for name in self._text_keys for text in arrays[name].flat)
        new = [text for text in seen if text not in self._string_ids]
        self._string_ids.update({text: len(self._string_ids) + i for i, text in enumerate(new)})
        return new

    def _write(
        self, arrays: Mapping[str, np.ndarray], episode: Episode, new_strings: list[str]
    ) -> None:
        if new_strings:
            _write_all(self._files["strings"], json_lines(new_strings))
        for name, array in arrays.items():
            _write_all(self._files[name], self._encoded(array))
        record = np.zeros(1, dtype=RECORD)
        record["start"], record["length"] = self._num_steps, len(episode)
        record["flags"] = _flags(episode)
        record["return"], record["seed"] = episode.total_reward, episode.seed
        record["column_crc"] = column_crc(arrays)
        record["record_crc"] = record_checksums(record, first=self._num_episodes)
        _write_all(self._files["records"], record.tobytes())

    def _encoded(self, array: np.ndarray) -> bytes:
        if array.dtype != object:
            return little_endian(array).tobytes()
        return np.array([self._string_ids[text] for text in array.flat], dtype="<u4").tobytes()

    def _undo(self, ends: Mapping[str, int], new_strings: list[str]) -> None:
        """Takes back a half-written episode; closes the writer when even that fails."""
        for text in new_strings:
            del self._string_ids[text]
        try:
            for name, end in ends.items():
                _cut(self._files[name], end)
        except OSError:
            self._release()

    def _release(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}


def _prepare_folder(path: Path, header: StoreHeader) -> None:
    """Makes the folder and its header, or checks that the existing header is the same."""
    if (path / HEADER_FILE).exists():
        found = read_header(path).difference(header)
        if found:
            raise DataError(
                f"{path}: the store was made with another header ({found}); write to another folder"
            )
        return
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: a file, expected a folder for the store")
    taken = [column.path for column in columns_of(path, header.spec).values()]
    for file in [path / RECORDS_FILE, path / STRINGS_FILE, *taken]:
        if file.exists():
            raise DataError(f"{file} exists without a {HEADER_FILE}; write to another folder")
    path.mkdir(parents=True, exist_ok=True)
    write_header(path, header)


def _flags(episode: Episode) -> int:
    flags = TERMINATED if episode.terminated else 0
    if episode.success is not None:
        flags |= HAS_SUCCESS | (SUCCESS if episode.success else 0)
    return flags


def _open_file(path: Path) -> FileIO:
    """Opens for unbuffered writing without cutting, and makes the file when there is none."""
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+")


def _lock(file: FileIO, path: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{path}: another writer holds this store; wait until it ends") from None
    except OSError as error:
        logger.warning("%s: the file system has no locks (%s); run one writer only", path, error)


def _cut(file: FileIO, size: int) -> None:
    file.truncate(size)
    file.seek(size)


def _write_all(file: FileIO, content: bytes) -> None:
    """Writes all bytes at the file's position (one call may write a part only)."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
