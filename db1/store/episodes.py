"""Episodes of one task on disk: an append-only writer and a lazy, memory-mapped reader.

The files are described in `episode_layout.py`, the writer is in `episode_writer.py`. Example:

    with EpisodeWriter(path, StoreHeader(task="toy/line", spec=spec)) as writer:
        writer.append(episode)
    stretch = EpisodeStore(path).read(0, start=10, stop=20)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.store.columns import STRINGS_FILE, column_crc, columns_of, read_strings
from db1.store.episode_layout import (
    HAS_SUCCESS,
    RECORD,
    SUCCESS,
    TERMINATED,
    StoreHeader,
    read_header,
    valid_records,
)
from db1.store.episode_writer import EpisodeWriter
from db1.tokens.spec import Episode, StepSpec

__all__ = ["EpisodeStore", "EpisodeWriter", "StoreCounts", "StoreHeader"]


@dataclass(frozen=True, kw_only=True)
class StoreCounts:
    """What `EpisodeStore.verify` counted."""

    num_episodes: int
    num_steps: int
    num_bytes: int
    num_strings: int


class EpisodeStore:
    """Reads a store lazily: opening reads the records only, `read` copies one stretch.

    Any number of processes may read while one writes; a store sees the episodes that were
    complete when it was opened. It pickles as its path and its number of episodes.

    Args:
        path: Folder of the store.

    Attributes:
        header: What the store holds.
        offsets: int64 (num_episodes + 1,), first step of each episode, then the total.
        lengths: int64 (num_episodes,), steps of each episode.
        returns: float64 (num_episodes,), undiscounted.
        seeds: int64 (num_episodes,), -1 where unknown.
        successes: float64 (num_episodes,), 1, 0, or NaN where the task has no such notion.
        terminations: bool (num_episodes,), True where the task itself ended.

    Raises:
        DataError: No store, another format, a newer version, or a truncated or damaged store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        self._take(valid_records(self.path, self.header))

    @property
    def spec(self) -> StepSpec:
        """Fields of one step."""
        return self.header.spec

    @property
    def num_episodes(self) -> int:
        """Number of complete episodes."""
        return len(self._records)

    @property
    def num_steps(self) -> int:
        """Number of steps in all episodes."""
        return int(self.offsets[-1])

    def read(self, episode: int, start: int = 0, stop: int | None = None) -> Episode:
        """Copies the steps [start, stop) of one episode, and nothing else, from the disk.

        Args:
            episode: Number of the episode.
            start: First step.
            stop: One past the last step; None for the end.

        Returns:
            The stretch; `terminated` only when it reaches the end of a terminated episode.

        Raises:
            DataError: No such episode or steps.
        """
        if not 0 <= episode < self.num_episodes:
            raise DataError(f"{self.path}: episode {episode}, expected 0..{self.num_episodes - 1}")
        length = int(self.lengths[episode])
        stop = length if stop is None else stop
        if not 0 <= start <= stop <= length:
            raise DataError(
                f"{self.path} episode {episode}: steps [{start}, {stop}), expected within "
                f"[0, {length})"
            )
        first = int(self.offsets[episode])
        arrays = {name: self._rows(name, first + start, first + stop) for name in self._columns}
        flags = int(self._records["flags"][episode])
        return Episode(
            observations={key: arrays[f"observations.{key}"] for key in self.spec.observation},
            actions=arrays["actions"],
            rewards=arrays["rewards"],
            seed=int(self.seeds[episode]),
            terminated=bool(flags & TERMINATED) and stop == length,
            success=bool(flags & SUCCESS) if flags & HAS_SUCCESS else None,
        )

    def verify(self) -> StoreCounts:
        """Reads everything and checks it against the checksums.

        Raises:
            DataError: Names the first episode whose stored values are not those written.
        """
        for i in range(self.num_episodes):
            first, last = int(self.offsets[i]), int(self.offsets[i + 1])
            arrays = {name: self._rows(name, first, last) for name in self._columns}
            if column_crc(arrays) != int(self._records["column_crc"][i]):
                raise DataError(
                    f"{self.path} episode {i}: checksum {column_crc(arrays):08x}, expected "
                    f"{int(self._records['column_crc'][i]):08x}; the store is damaged, make it "
                    "again"
                )
        row_bytes = sum(column.row_bytes for column in self._columns.values())
        return StoreCounts(
            num_episodes=self.num_episodes,
            num_steps=self.num_steps,
            num_bytes=self.num_steps * row_bytes + self.num_episodes * RECORD.itemsize,
            num_strings=len(self._string_table()) if self._has_text else 0,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "num_episodes": self.num_episodes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])
        if self.num_episodes < state["num_episodes"]:
            raise DataError(
                f"{self.path}: {self.num_episodes} episodes, expected {state['num_episodes']}; "
                "the store was cut while it was in use"
            )
        self._take(self._records[: state["num_episodes"]])

    def _take(self, records: np.ndarray) -> None:
        self._records = records
        self._columns = columns_of(self.path, self.spec)
        self._has_text = any(column.is_text for column in self._columns.values())
        self._maps: dict[str, np.ndarray] = {}
        self._strings: np.ndarray | None = None
        self.lengths = records["length"].astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self.returns = records["return"].astype(np.float64)
        self.seeds = records["seed"].astype(np.int64)
        flags = records["flags"]
        self.terminations = (flags & TERMINATED) > 0
        self.successes = np.where(flags & HAS_SUCCESS, (flags & SUCCESS) / SUCCESS, np.nan)

    def _rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Copies rows of one column; text is looked up, object (rows, *shape)."""
        column = self._columns[name]
        if name not in self._maps:
            self._maps[name] = column.map()
        if column.row_bytes == 0:
            return np.empty((stop - start, *column.row_shape), dtype=column.dtype)
        rows = np.array(self._maps[name][start:stop], dtype=column.dtype.newbyteorder("="))
        if not column.is_text:
            return rows
        strings = self._string_table()
        if rows.size and rows.max() >= len(strings):
            raise DataError(
                f"{self.path / STRINGS_FILE}: {len(strings)} strings, {column.path.name} names "
                f"string {rows.max()}; the store is damaged, make it again"
            )
        return strings[rows]

    def _string_table(self) -> np.ndarray:
        if self._strings is None:
            strings, _ = read_strings(self.path)
            self._strings = np.empty(len(strings), dtype=object)
            self._strings[:] = strings
        return self._strings
