"""Folders of trajectories in HDF5, NPZ or Parquet, whatever their arrays are called.

    --layout file     a file is an episode
    --layout group    a group of an HDF5 file is an episode
    --layout steps    all blocks of a file are one long run of steps, cut where `done`,
                      `terminated` or `truncated` is set, `step` starts again, `episode` changes,
                      or after --episode-length steps

Without --layout, an HDF5 file of groups is `group`, everything else `file`. `trajectory_map.py`
says what --map and --preset mean; files are taken in the natural order of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of
from db1.files import resolved
from db1.formats.fields import MAX_DISCRETE, BadEpisode, SourceField, infer_field
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
    reward_array,
)
from db1.importers.fingerprint import listing_fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.importers.trajectory_files import ROOT, TrajectoryFile, natural, open_trajectories
from db1.importers.trajectory_map import (
    ACTION,
    DONE,
    EPISODE,
    INSTRUCTION,
    LAYOUTS,
    OBSERVATION,
    REWARD,
    STEP,
    SUCCESS,
    SUFFIXES,
    TERMINATED,
    TRUNCATED,
    parse_map,
    preset_named,
    resolve,
)
from db1.ranges import Count


@dataclass(frozen=True, kw_only=True)
class TrajectoryOptions(EpisodeOptions):
    """Options of `db1 import trajectories`."""

    preset: str | None = option(
        None, "Known collections: ml-jku, vintix, amago, gen_dgrl or procgen."
    )
    map: list[str] | None = option(
        None, "target=source, as observation.state=states action=actions (repeatable)."
    )
    layout: str | None = option(
        None, "An episode is a `file`, a `group`, or cut out of `steps`; default: by the files."
    )
    episode_length: Count | None = option(None, "With steps: end episodes after this many.")
    keep_incomplete: bool = option(False, "With steps: keep the steps after the last end.")
    one_hot_actions: bool = option(False, "Actions are one-hot rows; store their numbers.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout is not None:
            check_one_of("--layout", self.layout, LAYOUTS)
        if self.preset is not None:
            preset_named(self.preset)
        parse_map(self.map)

    @property
    def names(self) -> dict[str, str]:
        """Source by target: the preset's, and --map over it."""
        preset = {} if self.preset is None else preset_named(self.preset).names
        return {**preset, **parse_map(self.map)}


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Location of an episode: rows [first, last) of a file's blocks, one after the other.

    Without `last` it is all of one block.
    """

    file: int
    block: str = ROOT
    first: int = 0
    last: int | None = None


class TrajectorySource(EpisodeSource):
    """Episodes of a folder of trajectories.

    Args:
        path: Folder or file.
        options: What the arrays are called and how they are cut.
        knows_task: Whether the task's step spec is known: integers of observations need no scan.

    Raises:
        ConfigError: No such folder, or options that do not fit it.
        DataError: A missing array, or files that cannot be read.
    """

    def __init__(self, path: Path, options: TrajectoryOptions, *, knows_task: bool = False) -> None:
        self.name = str(resolved(path))
        self.task = f"trajectories/{path.stem}"
        self._options = options
        self._files = _find_files(path, options.preset)
        self._open: tuple[int, TrajectoryFile] | None = None
        self._layout = self._find_layout()
        try:
            first = self._file(0)
            there = first.keys(first.blocks()[0])
            self._arrays = resolve(options.names, there, str(first.path))
            self._places = list(self._find_places())
            self.num_episodes = len(self._places)
            self.observation = {
                target.removeprefix(OBSERVATION): self._field(target, options, knows_task)
                for target in self._arrays
                if target.startswith(OBSERVATION)
            }
            self.action = action_field(self._field(ACTION, options, False), options)
        except BaseException:
            self.close()
            raise
        rest = sorted({*there} - {*self._arrays.values()})
        self.notes = tuple(
            note
            for note in (
                f"ignored the arrays {', '.join(rest)}" if rest else "",
                "" if REWARD in self._arrays else "nothing is mapped to reward: rewards are 0",
                self._incomplete,
            )
            if note
        )
        self.origin = {
            "kind": "trajectories",
            "source": self.name,
            "files": len(self._files),
            "arrays": dict(self._arrays),
            "layout": self._layout,
            "fingerprint": listing_fingerprint(self._files, path),
        }

    def episodes(self, first: int) -> Iterator[Load]:
        for place in self._places[first:]:
            yield partial(self._load, place)

    def returns(self) -> Iterator[float]:
        for place in self._places:
            if REWARD not in self._arrays:
                yield 0.0
            else:
                yield float(np.sum(self._read(place, REWARD), dtype=np.float64))

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _file(self, number: int) -> TrajectoryFile:
        """The open file of a number; the one before is closed."""
        if self._open is None or self._open[0] != number:
            self.close()
            self._open = (number, open_trajectories(self._files[number]))
        return self._open[1]

    def _find_layout(self) -> str:
        options = self._options
        if options.layout is not None:
            return options.layout
        if options.preset is not None:
            return preset_named(options.preset).layout
        if options.episode_length is not None or {STEP, EPISODE} & {*options.names}:
            return "steps"
        return "file" if self._file(0).blocks() == [ROOT] else "group"

    def _find_places(self) -> Iterator[_Place]:
        self._incomplete = ""
        if self._layout == "file":
            yield from (_Place(file=number) for number in range(len(self._files)))
            return
        dropped = 0
        for number in range(len(self._files)):
            file = self._file(number)
            if self._layout == "group":
                yield from (_Place(file=number, block=block) for block in file.blocks())
                continue
            ends, total = self._ends(file)
            start = 0
            for end in ends:
                yield _Place(file=number, first=start, last=end)
                start = end
            if start < total and self._options.keep_incomplete:
                yield _Place(file=number, first=start, last=total)
            dropped += 0 if self._options.keep_incomplete else total - start
        if dropped:
            self._incomplete = (
                f"dropped {dropped:,} steps after the last end of their file (--keep-incomplete)"
            )

    def _ends(self, file: TrajectoryFile) -> tuple[list[int], int]:
        """One past the last step of each episode of a file, and its number of steps."""
        total = sum(file.num_rows(block, self._arrays[ACTION]) for block in file.blocks())
        flags = [target for target in (TERMINATED, TRUNCATED, DONE) if target in self._arrays]
        length = self._options.episode_length
        if length is not None:
            return list(range(length, total + 1, length)), total
        if STEP in self._arrays or EPISODE in self._arrays:
            target = STEP if STEP in self._arrays else EPISODE
            numbers = self._whole(file, target).astype(np.int64)
            step = np.diff(numbers)
            is_new = step <= 0 if target == STEP else step != 0
            return [*(np.flatnonzero(is_new) + 1).tolist(), total][
                : total + 1 if total else 0
            ], total
        if not flags:
            raise ConfigError(
                f"{self.name}: nothing says where an episode ends; map {DONE}, {TERMINATED}, "
                f"{TRUNCATED}, {STEP} or {EPISODE}, or pass --episode-length"
            )
        is_last = np.zeros(total, dtype=bool)
        for target in flags:
            is_last |= self._whole(file, target).astype(bool)
        return (np.flatnonzero(is_last) + 1).tolist(), total

    def _whole(self, file: TrajectoryFile, target: str) -> np.ndarray:
        """A small array of a whole file, flat."""
        key = self._arrays[target]
        parts = [file.rows(b, key, 0, file.num_rows(b, key)).reshape(-1) for b in file.blocks()]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _read(self, place: _Place, target: str) -> np.ndarray:
        """A target's rows of one episode."""
        file, key = self._file(place.file), self._arrays[target]
        if place.last is None:
            block = place.block
            if self._layout == "file":
                block = file.blocks()[0]
            if key not in file.keys(block):
                raise BadEpisode(
                    f"{file.path}: no array {key!r}, it has {', '.join(file.keys(block))}"
                )
            return file.rows(block, key, 0, file.num_rows(block, key))
        parts, start = [], 0
        for block in file.blocks():
            stop = start + file.num_rows(block, key)
            first, last = max(place.first, start), min(place.last, stop)
            if first < last:
                parts.append(file.rows(block, key, first - start, last - start))
            start = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _load(self, place: _Place) -> SourceEpisode:
        observations = {
            target.removeprefix(OBSERVATION): self._read(place, target)
            for target in self._arrays
            if target.startswith(OBSERVATION)
        }
        actions = self._actions(place)
        flags = {
            target: bool(self._read(place, target).reshape(-1)[-1:].any())
            for target in (TERMINATED, TRUNCATED)
            if target in self._arrays
        }
        rewards = np.zeros(len(actions), np.float32)
        return SourceEpisode(
            observations=observations,
            actions=actions,
            rewards=reward_array(self._read(place, REWARD)) if REWARD in self._arrays else rewards,
            terminated=flags.get(TERMINATED, False),
            truncated=flags.get(TRUNCATED, False),
            success=bool(self._read(place, SUCCESS).any()) if SUCCESS in self._arrays else None,
            metadata=self._described(place),
        )

    def _actions(self, place: _Place) -> np.ndarray:
        actions = self._read(place, ACTION)
        if not self._options.one_hot_actions:
            return actions
        if (
            actions.ndim != 2
            or not ((actions == 0) | (actions == 1)).all()
            or (actions.sum(axis=1) != 1).any()
        ):
            raise BadEpisode(f"{self._files[place.file]}: actions are not one-hot rows")
        return actions.argmax(axis=1)

    def _described(self, place: _Place) -> dict[str, Any]:
        """Metadata: the file, the group, and the instruction where one is mapped."""
        metadata: dict[str, Any] = {"file": self._files[place.file].name}
        if place.block:
            metadata["group"] = place.block
        if INSTRUCTION in self._arrays:
            file = self._file(place.file)
            text = file.text(place.block, self._arrays[INSTRUCTION])
            if text:
                metadata[INSTRUCTION] = text
        return metadata

    def _field(self, target: str, options: TrajectoryOptions, knows_task: bool) -> SourceField:
        """The field of a target, from its first episode with a step; integers from all."""
        where = f"{self.name}: {self._arrays[target]}"
        read = self._actions if target == ACTION else partial(self._read, target=target)
        for place in self._places:
            first = read(place)
            if len(first):
                break
        else:
            raise DataError(f"{self.name}: no episode with a step")
        is_known = knows_task and target != ACTION
        scan = (lambda: (0, MAX_DISCRETE - 1)) if is_known else partial(self._value_range, read)
        return infer_field(
            first.dtype, first.shape[1:], scan, where,
            image_size=options.image_size, frames=options.pictures,
        )  # fmt: skip

    def _value_range(self, read: Callable[[_Place], np.ndarray]) -> tuple[int, int]:
        low, high = 0, 0
        for place in self._places:
            try:
                values = read(place)
            except BadEpisode:
                continue  # the import says so when it comes there
            if len(values):
                low, high = min(low, int(values.min())), max(high, int(values.max()))
        return low, high


def _find_files(path: Path, preset: str | None) -> list[Path]:
    """The trajectory files of a folder in natural order.

    Raises:
        ConfigError: There is none, or they are of several kinds.
    """
    wanted = SUFFIXES if preset is None else (preset_named(preset).suffix,)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path}: expected a file of {', '.join(SUFFIXES)}")
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder or file")
    files = [file for file in path.rglob("*") if file.suffix in wanted and file.is_file()]
    kinds = sorted({file.suffix for file in files})
    if len(kinds) != 1:
        found = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file"
        raise ConfigError(f"{path}: {found}, expected one of {', '.join(wanted)} in it or below")
    return sorted(files, key=lambda file: natural(file.relative_to(path).as_posix()))


def import_trajectories(
    source: str, out: Path, options: TrajectoryOptions, context: ImportContext
) -> ImportSummary:
    """Imports a folder of trajectories; see `import_episodes`."""
    path = Path(source)
    knows_task = options.task is not None and context.known_spec(options.task) is not None
    reader = TrajectorySource(path, options, knows_task=knows_task)
    return import_episodes(reader, out, options, context)


IMPORTERS.register("trajectories")(
    ImportKind(
        run=import_trajectories,
        options=TrajectoryOptions,
        help="Folders of trajectories in HDF5, NPZ or Parquet, with any names.",
        source_help="A folder of trajectory files, or one file.",
        example="db1 import trajectories reach-v2/ --preset ml-jku --task metaworld/reach-v3 "
        "--out data/jku/metaworld/reach-v3",
    )
)
