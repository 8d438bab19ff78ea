"""Episodes of one task on disk: an append-only writer and a lazy reader.

The files are described in `episode_layout.py`, the writer is in `episode_writer.py`. Example:

    with EpisodeWriter(path, StoreHeader(task="toy/line", spec=spec)) as writer:
        writer.append(episode)
    stretch = EpisodeStore(path).read(0, start=10, stop=20)
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
from db1.json_shape import parse_json
from db1.store.episode_layout import METADATA_FILE, StoreFiles, StoreHeader, read_header
from db1.store.episode_writer import EpisodeWriter
from db1.store.records import HAS_SUCCESS, SUCCESS, TERMINATED
from db1.store.statistics import FieldStatistics, StoreStatistics, field_statistics
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import VocabularyConfig

__all__ = ["EpisodeStore", "EpisodeWriter", "StoreCounts", "StoreHeader", "StoreStatistics"]

Progress = Callable[[int, int], None]
"""Called with (what is done, all there is)."""


_CHUNK = 1 << 15
"""Records that are read at once."""


@dataclass(frozen=True, kw_only=True)
class StoreCounts:
    """Counts made by `EpisodeStore.verify`.

    Args:
        num_episodes: Complete episodes.
        num_steps: Their steps.
        num_bytes: Bytes of the files that hold them.
        num_strings: Texts in the string table.
    """

    num_episodes: int
    num_steps: int
    num_bytes: int
    num_strings: int


class EpisodeStore:
    """Reads a store lazily: opening checks the records only, `read` reads one stretch.

    Any number of processes may read while one writes; a store sees the episodes that were
    complete when it was opened. It pickles as its path and its number of episodes.

    Args:
        path: Folder of the store.

    Attributes:
        header: What the store holds.
        offsets: int64 (num_episodes + 1,), first step of each episode, then the total.
        lengths: int64 (num_episodes,), steps of each episode.

    Raises:
        DataError: No store, another format, a newer version, or a truncated or damaged store.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open(None)

    @property
    def spec(self) -> StepSpec:
        """Fields of one step."""
        return self.header.spec

    @property
    def num_episodes(self) -> int:
        """Number of complete episodes."""
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Number of steps in all episodes."""
        return int(self.offsets[-1])

    @property
    def num_bytes(self) -> int:
        """Bytes that the complete episodes take on disk (`header.json` aside)."""
        files, last = self._files, self.num_episodes - 1
        if last < 0:
            return 0
        num_bytes = sum(sum(column.sizes(self.num_steps)) for column in files.columns.values())
        if files.has_text:
            num_bytes += files.strings.lines_file.size() + files.strings.ends.file.size()
        num_bytes += int(files.records.read(last, last + 1)["metadata_end"][0])
        return num_bytes + self.num_episodes * files.records.record_bytes

    @cached_property
    def returns(self) -> np.ndarray:
        """float64 (num_episodes,), undiscounted."""
        return self._files.records.read_field("return", self.num_episodes)

    @cached_property
    def seeds(self) -> np.ndarray:
        """int64 (num_episodes,), -1 where unknown."""
        return self._files.records.read_field("seed", self.num_episodes)

    @cached_property
    def terminations(self) -> np.ndarray:
        """bool (num_episodes,), True where the task itself ended."""
        return (self._flags & TERMINATED) > 0

    @cached_property
    def successes(self) -> np.ndarray:
        """float64 (num_episodes,), 1, 0, or NaN where the task has no such notion."""
        return np.where(self._flags & HAS_SUCCESS, (self._flags & SUCCESS) / SUCCESS, np.nan)

    def read(self, episode: int, start: int = 0, stop: int | None = None) -> Episode:
        """Reads the steps [start, stop) of one episode, and nothing else, from the disk.

        Args:
            episode: Number of the episode.
            start: First step.
            stop: One past the last step; None for the end.

        Returns:
            The stretch in fresh arrays; `terminated` only when it reaches the end of a terminated
            episode, `metadata` that of the whole episode.

        Raises:
            DataError: No such episode or steps, or a damaged store.
        """
        observations, actions = self.read_window(episode, start, stop)
        first = int(self.offsets[episode]) + start
        record, metadata_start = self._record(episode)
        flags = int(record["flags"])
        return Episode(
            observations=observations,
            actions=actions,
            rewards=self._rewards.read(first, first + len(actions)),
            seed=int(record["seed"]),
            terminated=bool(flags & TERMINATED) and start + len(actions) == record["length"],
            success=bool(flags & SUCCESS) if flags & HAS_SUCCESS else None,
            metadata=self._metadata(episode, metadata_start, int(record["metadata_end"])),
        )

    def read_window(
        self, episode: int, start: int = 0, stop: int | None = None
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Reads what a training sequence needs of the steps [start, stop) of one episode.

        Returns:
            Observations by key, first axis the steps, and actions, all in fresh arrays.

        Raises:
            DataError: No such episode or steps, or a damaged store.
        """
        first, last = self._places(episode, start, stop)
        observations = {key: column.read(first, last) for key, column in self._observations}
        return observations, self._actions.read(first, last)

    def _places(self, episode: int, start: int, stop: int | None) -> tuple[int, int]:
        """First and one past the last of some steps among those of all episodes."""
        if not 0 <= episode < len(self.lengths):
            raise DataError(f"{self.path}: episode {episode}, expected 0..{self.num_episodes - 1}")
        length = int(self.lengths[episode])
        if stop is None:
            stop = length
        if not 0 <= start <= stop <= length:
            raise DataError(
                f"{self.path} episode {episode}: steps [{start}, {stop}), expected within "
                f"[0, {length})"
            )
        offset = int(self.offsets[episode])
        return offset + start, offset + stop

    def read_field(
        self, episode: int, key: str, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Reads one observation field of the steps [start, stop) of one episode.

        Returns:
            A fresh array, first axis the steps.

        Raises:
            DataError: No such episode, steps or field, or a damaged store.
        """
        columns = dict(self._observations)
        if key not in columns:
            raise DataError(f"{self.path}: no field {key!r}, expected one of {sorted(columns)}")
        first, last = self._places(episode, start, stop)
        return columns[key].read(first, last)

    def metadata(self, episode: int) -> dict[str, Any]:
        """Reads what was stored about one episode; an empty dict where nothing was.

        Raises:
            DataError: No such episode, or damaged metadata.
        """
        if not 0 <= episode < self.num_episodes:
            raise DataError(f"{self.path}: episode {episode}, expected 0..{self.num_episodes - 1}")
        record, start = self._record(episode)
        return self._metadata(episode, start, int(record["metadata_end"]))

    def verify(self, progress: Progress | None = None) -> StoreCounts:
        """Reads everything, a few MiB at a time, and checks it against the checksums.

        Args:
            progress: Called with (episodes done, all episodes).

        Raises:
            DataError: Names the first episode whose stored bytes are not those written.
        """
        for i in range(self.num_episodes):
            self.verify_episode(i)
            if progress is not None:
                progress(i + 1, self.num_episodes)
        return StoreCounts(
            num_episodes=self.num_episodes,
            num_steps=self.num_steps,
            num_bytes=self.num_bytes,
            num_strings=len(self._files.strings) if self._files.has_text else 0,
        )

    @property
    def num_steps_behind(self) -> int:
        """Steps after the last complete episode, as of a writer at work or one that was killed.

        More than the longest episode has: `episodes.bin` lost its end.
        """
        return max(0, self._files.num_rows() - self.num_steps)

    def verify_episode(self, episode: int) -> None:
        """Reads one episode and checks it against its checksum.

        Raises:
            DataError: Its stored bytes are not those written.
        """
        crc, first, last = 0, int(self.offsets[episode]), int(self.offsets[episode + 1])
        for column in self._files.columns.values():
            crc = column.update_crc(crc, first, last)
        record, start = self._record(episode)
        metadata = self._files.metadata.read(start, int(record["metadata_end"]) - start)
        crc, expected = zlib.crc32(metadata, crc), int(record["column_crc"])
        if crc != expected:
            raise DataError(
                f"{self.path} episode {episode}: checksum {crc:08x}, expected {expected:08x}; the "
                "store is damaged, make it again"
            )

    def digest(self) -> str:
        """SHA-256 (hex) of the header and of the records, which hold checksums of all else."""
        content = self.header.to_dict() | {"created_by": ""}
        found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for first in range(0, self.num_episodes, _CHUNK):
            last = min(first + _CHUNK, self.num_episodes)
            found.update(self._files.records.read(first, last).tobytes())
        return found.hexdigest()

    def statistics(
        self, vocabulary: VocabularyConfig | None = None, progress: Progress | None = None
    ) -> StoreStatistics:
        """Reads all values, a few MiB at a time, and sums them up.

        Args:
            vocabulary: Says which values the tokenizer clips; None for Gato's numbers.
            progress: Called with (rows read, rows of all columns).

        Raises:
            DataError: A damaged store.
        """
        vocabulary = vocabulary or VocabularyConfig()
        observed = {f"observations.{key}": field for key, field in self.spec.observation.items()}
        limits = dict.fromkeys(observed, vocabulary.max_magnitude) | {"actions": 1.0}
        rewards = FieldSpec(kind="continuous")
        specs = {**observed, "actions": self.spec.action, "rewards": rewards}
        fields: dict[str, FieldStatistics] = {}
        for number, (name, field) in enumerate(specs.items()):

            def advance(rows: int, before: int = number * self.num_steps) -> None:
                if progress is not None:
                    progress(before + rows, len(specs) * self.num_steps)

            column = self._files.columns[name]
            fields[name] = field_statistics(column, field, self.offsets, limits.get(name), advance)
        return StoreStatistics(
            num_episodes=self.num_episodes,
            num_steps=self.num_steps,
            lengths=self.lengths,
            returns=self.returns,
            fields=fields,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "num_episodes": self.num_episodes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open(state["num_episodes"])

    def _open(self, num_episodes: int | None) -> None:
        """Takes the first `num_episodes` episodes, or all there are."""
        self.header = read_header(self.path)
        self._files = StoreFiles(self.path, self.header)
        lengths = self._files.valid_lengths()
        if num_episodes is not None and len(lengths) < num_episodes:
            raise DataError(
                f"{self.path}: {len(lengths)} episodes, expected {num_episodes}; the store was cut "
                "while it was in use"
            )
        self.lengths = lengths[:num_episodes]
        self.offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])
        columns = self._files.columns
        self._observations = [
            (key, columns[f"observations.{key}"]) for key in self.spec.observation
        ]
        self._actions, self._rewards = columns["actions"], columns["rewards"]

    @cached_property
    def _flags(self) -> np.ndarray:
        return self._files.records.read_field("flags", self.num_episodes)

    def _record(self, episode: int) -> tuple[np.void, int]:
        """The record of an episode, and where its metadata starts."""
        if episode == 0:
            return self._files.records.read(0, 1)[0], 0
        before, record = self._files.records.read(episode - 1, episode + 1)
        return record, int(before["metadata_end"])

    def _metadata(self, episode: int, start: int, end: int) -> dict[str, Any]:
        if start == end:
            return {}
        line = self._files.metadata.read(start, end - start)
        try:
            content = parse_json(line)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise DataError(
                f"{self.path / METADATA_FILE}: episode {episode} has {line[:40]!r}, expected a "
                "JSON object; the store is damaged, make it again"
            )
        return content
