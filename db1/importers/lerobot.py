"""Episodes of LeRobot data sets, from a folder or the hub: see `lerobot_layout.py`.

    observation.*      fields, without that prefix: numbers, text, pictures (inside or as MP4)
    action             the action; --action-bounds data takes its bounds from the set's statistics
    next.reward        rewards; 0 where the set has none
    next.done          the last one: the task itself ended
    next.success       True in any step: the episode succeeded
    task_index         number of the task text, kept as the episode's metadata `instruction`

With --fps the steps nearest to k / fps seconds are kept; a kept step has its own action and
observation, and the sum of the rewards up to the next kept one. A set of many tasks becomes the
store of one of them with --only; --instruction-field also gives every step its text as an
observation. Further features are ignored.

Frames of videos are decoded by PyAV one episode at a time, in the order of the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, nearest
from db1.formats.fields import MAX_DISCRETE, BadEpisode, SourceField, image_field, infer_field
from db1.formats.parquet import RowCursor, shaped
from db1.formats.picture_bytes import decode_all
from db1.formats.video import VideoReader
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import fingerprint
from db1.importers.lerobot_layout import EpisodeEntry, Layout, open_folder
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.ranges import Positive

ACTION = "action"
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
PREFIX = "observation."
INSTRUCTION = "instruction"
_BOOKKEEPING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
_FLAGS = {REWARD, DONE, SUCCESS}
_PICTURES = ("image", "video")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LerobotOptions(EpisodeOptions):
    """Options of `db1 import lerobot`."""

    fps: Positive | None = option(
        None, "Keep this many steps per second, at most the data set's own; default: all."
    )
    only: str | None = option(None, "Keep the episodes with this task text.")
    fields: str | None = option(
        None, "Observations to keep, as observation.state,observation.images.top; default: all."
    )
    instruction_field: bool = option(False, "Give every step its task text as an observation.")


class LerobotSource(EpisodeSource):
    """Episodes of one LeRobot data set.

    Args:
        source: Folder or address.
        options: What is kept and how.

    Raises:
        ConfigError: An option that the set has nothing for.
        DataError: A broken set, or one without actions or observations.
    """

    def __init__(self, source: str, options: LerobotOptions) -> None:
        self.layout = Layout(open_folder(source))
        self._options = options
        self.name = self.layout.folder.name
        self.task = f"lerobot/{Path(self.name).name}"
        self._entries = self._chosen(options.only)
        self.num_episodes = len(self._entries)
        self._features = self._observed(options.fields)
        self._columns = self._read_columns()
        self.observation = {self._key(name): self._field(name, options) for name in self._features}
        if options.instruction_field:
            self.observation[INSTRUCTION] = SourceField(kind="text")
        self.action = self._action(options)
        self.notes = tuple(self._notes())
        self.origin = {
            "kind": "lerobot",
            "source": self.name,
            "version": self.layout.version,
            "fps": options.fps or self.layout.fps,
            "features": [*self._features, ACTION],
            "fingerprint": fingerprint(self.layout.meta_files),
        }
        self._cursor = RowCursor(self._columns)
        self._videos = {key: VideoReader() for key in self.layout.video_keys}
        self._kept_step(np.arange(2))  # refuses an --fps above the set's own

    def episodes(self, first: int) -> Iterator[Load]:
        for entry in self._entries[first:]:
            yield partial(self._load, entry)

    def returns(self) -> Iterator[float]:
        cursor = RowCursor([REWARD])
        for entry in self._entries:
            if REWARD not in self.layout.features:
                yield 0.0
                continue
            path = self.layout.folder.file(entry.file)
            table = cursor.rows(path, entry.first_row, entry.length)
            yield float(np.sum(shaped(table.column(0), (), self.name), dtype=np.float64))
        cursor.close()

    def close(self) -> None:
        self._cursor.close()
        for reader in self._videos.values():
            reader.close()

    def _chosen(self, only: str | None) -> list[EpisodeEntry]:
        """The episodes that are kept; those of one task text with --only."""
        entries = self.layout.episodes
        if only is None:
            return entries
        known = set(self.layout.tasks.values())
        if only not in known:
            listed = "; ".join(sorted(known)[:20])
            raise ConfigError(
                f"--only {only!r}: no such task text in {self.name}{nearest(only, known)}; it has "
                f"{listed}"
            )
        return [entry for entry in entries if only in entry.tasks]

    def _observed(self, given: str | None) -> list[str]:
        """Names of the features that become observations."""
        known = sorted(key for key in self.layout.features if key.startswith(PREFIX))
        chosen = known if given is None else [name.strip() for name in given.split(",")]
        for name in chosen:
            if name not in self.layout.features or name in _BOOKKEEPING:
                raise ConfigError(
                    f"--fields: no feature {name!r} in {self.name}, it has "
                    f"{', '.join(sorted(self.layout.features))}"
                )
        if not chosen or ACTION not in self.layout.features:
            raise DataError(
                f"{self.name}: features {', '.join(sorted(self.layout.features))}, expected "
                f"{ACTION} and at least one {PREFIX}*"
            )
        return chosen

    def _read_columns(self) -> list[str]:
        features = self.layout.features
        flags = [name for name in (REWARD, DONE, SUCCESS) if name in features]
        inside = [name for name in self._features if features[name]["dtype"] != "video"]
        return [*inside, ACTION, *flags, "episode_index", "task_index"]

    def _key(self, name: str) -> str:
        known = self.layout.features[name].get("db1")
        key = known.get("key") if isinstance(known, Mapping) else None
        return key if isinstance(key, str) and key else name.removeprefix(PREFIX)

    def _field(self, name: str, options: LerobotOptions) -> SourceField:
        feature = self.layout.features[name]
        where = f"{self.name}: {name}"
        if (known := _of_db1(feature)) is not None:
            return known
        if feature["dtype"] in _PICTURES:
            return image_field(
                _picture_shape(feature, where),
                image_size=options.image_size,
                frames=options.pictures,
                where=where,
            )
        if feature["dtype"] == "string":
            return SourceField(kind="text")
        try:
            dtype = np.dtype(feature["dtype"])
        except TypeError:
            raise DataError(
                f"{where}: dtype {feature['dtype']!r}, expected numbers, string, image or video"
            ) from None
        shape = feature["shape"]
        if dtype.kind != "f" and shape == (1,):
            shape = ()
        return infer_field(dtype, shape, partial(self._integer_range, name), where)

    def _integer_range(self, name: str) -> tuple[int, int]:
        found = self.layout.ranges(name)
        if found is None:
            return 0, MAX_DISCRETE - 1
        return int(found[0].min()), int(found[1].max())

    def _action(self, options: LerobotOptions) -> SourceField:
        field = action_field(self._field(ACTION, options), options)
        if field.kind not in ("continuous", "discrete"):
            raise DataError(f"{self.name}: {ACTION} is {field.kind}, expected numbers")
        return field

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        found = self.layout.ranges(ACTION)
        if found is None:
            return super().action_range()
        low, high = (np.reshape(bound, self.action.shape) for bound in found)
        return low, high

    def _notes(self) -> Iterator[str]:
        used = {*self._features, ACTION, *_FLAGS, *_BOOKKEEPING}
        rest = sorted(set(self.layout.features) - used)
        if rest:
            yield f"ignored the features {', '.join(rest)}"
        if REWARD not in self.layout.features:
            yield f"the set has no {REWARD}: rewards are 0"

    def _load(self, entry: EpisodeEntry) -> SourceEpisode:
        where = f"{self.name} episode {entry.index}"
        try:
            path = self.layout.folder.file(entry.file)
            table = self._cursor.rows(path, entry.first_row, entry.length)
            rows = _Rows(table, where)
            self._check_rows(rows, entry, where)
            observations = {self._key(n): self._values(n, rows, entry) for n in self._features}
        except BadEpisode:
            raise
        except DataError as error:  # a file of this episode is missing
            raise BadEpisode(f"{where}: {error}") from None
        texts = [self.layout.tasks.get(int(n), "") for n in rows.numbers("task_index")]
        kept = self._kept_step(np.arange(entry.length))
        if self._options.instruction_field:
            observations[INSTRUCTION] = np.array(texts, dtype=object)[kept]
        return SourceEpisode(
            observations=observations,
            actions=rows.numbers(ACTION, self.layout.features[ACTION]["shape"])[kept],
            rewards=self._rewards(rows, kept, entry.length),
            terminated=rows.has(DONE) and bool(rows.numbers(DONE)[-1:].any()),
            truncated=rows.has(DONE) and not rows.numbers(DONE)[-1:].any(),
            success=bool(rows.numbers(SUCCESS).any()) if rows.has(SUCCESS) else entry.success,
            seed=entry.seed,
            metadata=_described(entry, texts),
        )

    def _check_rows(self, rows: _Rows, entry: EpisodeEntry, where: str) -> None:
        numbers = rows.numbers("episode_index")
        others = numbers[numbers != entry.index]
        if len(others):
            raise BadEpisode(
                f"{where}: {entry.file} has rows of episode {int(others[0])} there; the lengths in "
                "meta/episodes do not fit the data"
            )

    def _values(self, name: str, rows: _Rows, entry: EpisodeEntry) -> Any:
        """A feature's values at the steps that are kept."""
        feature = self.layout.features[name]
        kept = self._kept_step(np.arange(entry.length))
        if feature["dtype"] == "video":
            return self._frames(name, entry, kept)
        if feature["dtype"] == "image":
            return rows.pictures(name, kept)
        if feature["dtype"] == "string":
            return np.array(rows.table.column(name).to_pylist(), dtype=object)[kept]
        return rows.numbers(name, feature["shape"])[kept]

    def _frames(self, name: str, entry: EpisodeEntry, kept: np.ndarray) -> np.ndarray:
        span = entry.videos[name]
        path = self.layout.folder.file(span.file)
        times = span.start + kept / self.layout.fps
        return self._videos[name].frames(path, times.tolist(), 1 / self.layout.fps)

    def _kept_step(self, steps: np.ndarray) -> np.ndarray:
        """Numbers of the steps that --fps keeps, int64."""
        fps, own = self._options.fps, self.layout.fps
        if fps is None or fps == own:
            return steps
        if fps > own:
            raise ConfigError(f"--fps {fps:g}: {self.name} has {own:g} frames a second")
        count = int((len(steps) - 1) * fps / own + 1e-9) + 1
        return np.rint(np.arange(count) * own / fps).astype(np.int64)

    def _rewards(self, rows: _Rows, kept: np.ndarray, length: int) -> np.ndarray:
        if not rows.has(REWARD):
            return np.zeros(len(kept), np.float32)
        rewards = rows.numbers(REWARD)
        return rewards if len(kept) == length else np.add.reduceat(rewards, kept)


class _Rows:
    """The table of one episode."""

    def __init__(self, table: Any, where: str) -> None:
        self.table = table
        self._where = where

    def has(self, name: str) -> bool:
        """True when there is such a column."""
        return name in self.table.column_names

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """A column (T, *shape)."""
        values = shaped(self.table.column(name), shape, f"{self._where}: {name}")
        return values.reshape(-1) if shape == (1,) and values.dtype.kind != "f" else values

    def pictures(self, name: str, kept: np.ndarray) -> np.ndarray:
        """Decoded pictures of some rows, uint8 (len(kept), height, width, 3)."""
        column = self.table.column(name)
        entries = [column[step].as_py() or {} for step in kept.tolist()]
        return decode_all([entry.get("bytes") for entry in entries], f"{self._where}: {name}")


def _of_db1(feature: Mapping[str, Any]) -> SourceField | None:
    """The numbers that `db1 export lerobot` describes; None for features of others."""
    known = feature.get("db1")
    if not isinstance(known, Mapping) or known.get("kind") not in ("continuous", "discrete"):
        return None
    kind, shape, count = str(known["kind"]), known.get("shape"), known.get("num_values")
    is_shape = isinstance(shape, list) and all(isinstance(n, int) and n > 0 for n in shape)
    if not is_shape or (tuple(shape) or (1,)) != feature["shape"]:
        return None
    if kind == "discrete" and not (isinstance(count, int) and 0 < count <= MAX_DISCRETE):
        return None
    num_values = count if kind == "discrete" else None
    return SourceField(
        kind=kind, shape=tuple(shape), num_values=num_values, dtype=str(feature["dtype"])
    )


def _picture_shape(feature: Mapping[str, Any], where: str) -> tuple[int, int, int]:
    """(height, width, 3) of the decoded pictures of a feature, whose shape may begin with C."""
    shape = feature["shape"]
    names = feature.get("names") or ()
    if len(shape) != 3:
        raise DataError(f"{where}: shape {shape}, expected (height, width, channels)")
    is_first = "channel" in str(names[0]) if len(names) == 3 else shape[0] in (1, 3)
    height, width = shape[1:] if is_first else shape[:2]
    return height, width, 3


def _described(entry: EpisodeEntry, texts: list[str]) -> dict[str, Any]:
    """Metadata: LeRobot's number, the first task text, and where it changes."""
    metadata: dict[str, Any] = {"episode_index": entry.index}
    first = next(iter(texts), "") or next(iter(entry.tasks), "")
    if first:
        metadata[INSTRUCTION] = first
    changes = [i for i in range(1, len(texts)) if texts[i] != texts[i - 1]]
    if changes:
        metadata["instructions"] = [[0, texts[0]], *([i, texts[i]] for i in changes)]
    return metadata


def import_lerobot(
    source: str, out: Path, options: LerobotOptions, context: ImportContext
) -> ImportSummary:
    """Imports one LeRobot data set; see `import_episodes`."""
    return import_episodes(LerobotSource(source, options), out, options, context)


IMPORTERS.register("lerobot")(
    ImportKind(
        run=import_lerobot,
        options=LerobotOptions,
        help="A LeRobot data set (v2.0, v2.1, v3).",
        source_help="Its folder, or its address on the hub (user/name).",
        example="db1 import lerobot lerobot/metaworld_mt50 --action-bounds data "
        "--out data/lerobot/mt50",
    )
)
