"""The writer of an episode store."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.store.append import StoreWriter
from db1.store.columns import TextColumn
from db1.store.episode_arrays import checked_arrays, metadata_line
from db1.store.episode_layout import (
    VERSION,
    StoreFiles,
    StoreHeader,
    read_header,
)
from db1.store.header import HEADER_FILE
from db1.store.records import HAS_SUCCESS, RECORD, SUCCESS, TERMINATED, record_checksums
from db1.store.strings import StringNumbers, json_line
from db1.tokens.spec import Episode


class EpisodeWriter(StoreWriter):
    """Appends episodes to a store; makes it, or goes on where an earlier writer stopped.

    Args:
        path: Folder of the store.
        header: Must equal the existing store's (except `created_by` and `version`).
        forbidden_seeds: Seeds that no stored episode may have (the evaluation seeds).
        repair: Keep the leading valid episodes of a damaged store instead of refusing it.

    Raises:
        DataError: Another header, a foreign or damaged store, one of version 1, or a second
            writer.
    """

    NOUN = "episode"

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: StoreHeader,
        *,
        forbidden_seeds: range | None = None,
        repair: bool = False,
    ) -> None:
        self.header = header
        self._forbidden_seeds = forbidden_seeds
        self._stored = StoreFiles(Path(path), header)
        super().__init__(self._stored, header, self._existing, repair)

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
        self._check_open()
        arrays = checked_arrays(episode, self.header.spec, where)
        metadata = metadata_line(episode.metadata, where)
        self._check_seed(episode.seed, where)
        new_strings = self._numbers.add(
            text
            for name, column in self._stored.columns.items()
            if isinstance(column, TextColumn)
            for text in arrays[name].flat
        )
        with self._whole(self._num_episodes, lambda: self._numbers.take_back(new_strings)):
            self._write(arrays, metadata, episode, new_strings)
        self._num_episodes += 1
        self._num_steps += len(episode)
        self._numbers.forget_old()

    def _existing(self) -> StoreHeader | None:
        if not (self.path / HEADER_FILE).exists():
            return None
        existing = read_header(self.path)
        if existing.version != VERSION and existing.difference(self.header) is None:
            raise DataError(
                f"{self.path}: a store of version {existing.version}, which this db1 reads but "
                "does not append to; copy it with db1.store.conversion.convert_store, or write to "
                "another folder"
            )
        return existing

    def _open(self, repair: bool) -> None:
        """Cuts what no valid record vouches for."""
        stored = self._stored
        lengths = stored.valid_lengths(repair=repair)
        self._num_episodes = len(lengths)
        self._num_steps = int(lengths.sum())
        last = np.zeros(1, dtype=RECORD)
        if self._num_episodes:
            last = stored.records.read(self._num_episodes - 1, self._num_episodes)
        self._files.cut(stored.records.file.path, self._num_episodes * RECORD.itemsize)
        for column in stored.columns.values():
            for file, size in zip(column.files, column.sizes(self._num_steps), strict=True):
                self._files.cut(file.path, size)
        num_strings = int(last["num_strings"][0])
        if stored.has_text:
            self._files.cut(stored.strings.lines_file.path, stored.strings.ends[num_strings - 1])
            self._files.cut(stored.strings.ends.file.path, num_strings * 8)
        if stored.metadata.path.exists():
            self._files.cut(stored.metadata.path, int(last["metadata_end"][0]))
        self._numbers = StringNumbers(stored.strings, num_strings)

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
            paths = [file.path for file in column.files]
            is_text = isinstance(column, TextColumn)
            rows = self._numbers.numbers(arrays[name]) if is_text else arrays[name]
            encoded = column.encode(rows, tuple(self._files.end(path) for path in paths))
            for path, content in zip(paths, encoded, strict=True):
                self._files.write(path, content)
            crc = column.crc_of_encoded(crc, arrays[name], encoded)
        if metadata:
            self._files.write(self._stored.metadata.path, metadata)
        record = np.zeros(1, dtype=RECORD)
        record["start"], record["length"] = self._num_steps, len(episode)
        record["flags"] = _flags(episode)
        record["return"], record["seed"] = episode.total_reward, episode.seed
        record["num_strings"] = self._numbers.num_strings
        record["metadata_end"] = self._files.end(self._stored.metadata.path)
        record["column_crc"] = zlib.crc32(metadata, crc)
        record["record_crc"] = record_checksums(record, first=self._num_episodes)
        self._files.write(self._stored.records.file.path, record.tobytes())

    def _write_strings(self, new_strings: list[str]) -> None:
        if not new_strings:
            return
        table = self._stored.strings
        lines = [json_line(text) for text in new_strings]
        ends = self._files.end(table.lines_file.path) + np.cumsum([len(line) for line in lines])
        self._files.write(table.lines_file.path, b"".join(lines))
        self._files.write(table.ends.file.path, ends.astype("<u8").tobytes())


def _flags(episode: Episode) -> int:
    flags = TERMINATED if episode.terminated else 0
    if episode.success is not None:
        flags |= HAS_SUCCESS | (SUCCESS if episode.success else 0)
    return flags
