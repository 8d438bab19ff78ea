"""Episodes of TD-MPC2's data sets (mt30, mt80, and what its replay buffer holds): `.pt` files.

A file is a TensorDict of (episodes, rows) or, with one episode, (rows,):

    obs       what was seen; a nested TensorDict gives an observation a name
    action    row t has what was done *before* obs t; row 0 says nothing
    reward    likewise, NaN in row 0
    task      number of the task in every row, in sets of many tasks
    terminated, success    where there: in any row of the episode

Sets of many tasks fill observations and actions with zeros to one width. A store holds one task
(--only); its numbers after the last one that ever differs from zero are cut off, or as many as
--task has.

Source: Hansen et al. 2024, https://github.com/nicklashansen/tdmpc2, `trainer/offline_trainer.py`,
`common/buffer.py`; the order of the tasks is that of `common/__init__.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from db1.errors import ConfigError, DataError, nearest
from db1.files import resolved
from db1.formats.fields import MAX_DISCRETE, BadEpisode, SourceField, infer_field
from db1.formats.tensordict_file import TensorFile
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import listing_fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.importers.tdmpc2_tasks import TASKS
from db1.importers.trajectory_files import natural
from db1.ranges import Count
from db1.tokens.spec import StepSpec

OBSERVATION, ACTION, REWARD, TASK = "obs", "action", "reward", "task"
TERMINATED, SUCCESS = "terminated", "success"
_SLAB = 256
"""Episodes read at once while the width of a task is looked for."""


@dataclass(frozen=True, kw_only=True)
class TdMpc2Options(EpisodeOptions):
    """Options of `db1 import tdmpc2`."""

    only: str | None = option(None, "Keep the episodes of this task: mw-reach, or its number.")
    observation_dim: Count | None = option(
        None, "Numbers per observation; default: up to the last one that is ever nonzero."
    )
    action_dim: Count | None = option(None, "Numbers per action; default: likewise.")
    drop_first: bool = option(False, "Ignore a reward in the first row, where TD-MPC2 has none.")


class _Place(NamedTuple):
    """One episode: its file and its row there."""

    file: int
    row: int


class TdMpc2Source(EpisodeSource):
    """Episodes of one task of a folder of `.pt` files.

    Args:
        path: Folder or file.
        options: Which are kept and how.
        known: Spec of the task that they become, if db1 has it.

    Raises:
        ConfigError: No such folder, or an --only that is not there or is missing.
        DataError: A file that is no such TensorDict.
    """

    def __init__(self, path: Path, options: TdMpc2Options, known: StepSpec | None = None) -> None:
        self.name = str(resolved(path))
        self._options = options
        self._files = _find_files(path)
        self._open: tuple[int, TensorFile] | None = None
        self._keys = self._check(self._file(0))
        self.has_tasks = TASK in self._file(0).names
        number = self._chosen()
        self._places = list(self._find_places(number))
        self.num_episodes = len(self._places)
        self.task = f"tdmpc2/{path.stem if number is None else task_name(number)}"
        self.notes: tuple[str, ...] = ()
        self._widths: dict[str, int] = {}
        self.observation = {self._short(key): self._field(key, known) for key in self._keys}
        self.action = action_field(self._field(ACTION, known), options)
        rest = {*self._file(0).names} - {*self._keys, ACTION, REWARD, TASK, TERMINATED, SUCCESS}
        if rest:
            self.notes += (f"ignored the tensors {', '.join(sorted(rest))}",)
        self.origin = {
            "kind": "tdmpc2",
            "source": self.name,
            "files": len(self._files),
            "task": number,
            "fingerprint": listing_fingerprint(self._files, path),
        }

    def episodes(self, first: int) -> Iterator[Load]:
        for place in self._places[first:]:
            yield partial(self._load, place)

    def returns(self) -> Iterator[float]:
        for place in self._places:
            yield float(np.sum(self._rows(place, REWARD).reshape(-1)[1:], dtype=np.float64))

    def close(self) -> None:
        self._open = None

    def _file(self, number: int) -> TensorFile:
        if self._open is None or self._open[0] != number:
            file = TensorFile(self._files[number])
            if number:
                self._check(file)
            self._open = (number, file)
        return self._open[1]

    def _check(self, file: TensorFile) -> list[str]:
        """Names of a file's observations, after a look at what it holds."""
        keys = [n for n in file.names if n == OBSERVATION or n.startswith(f"{OBSERVATION}.")]
        missing = [name for name in (ACTION, REWARD) if name not in file.names]
        if not keys or missing:
            raise DataError(
                f"{file.path}: tensors {', '.join(file.names) or 'none'}, expected {OBSERVATION}, "
                f"{ACTION} and {REWARD}"
            )
        batch = self._batch(file)
        for name in (*keys, ACTION, REWARD):
            if file.shape(name)[: len(batch)] != batch:
                raise DataError(
                    f"{file.path}: {name} {file.shape(name)}, expected {batch} in front as of "
                    f"{REWARD}"
                )
        return keys

    def _batch(self, file: TensorFile) -> tuple[int, ...]:
        """(episodes, rows) or (rows,): the shape of the rewards."""
        shape = file.shape(REWARD)
        shape = shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
        if len(shape) not in (1, 2):
            raise DataError(
                f"{file.path}: {REWARD} {file.shape(REWARD)}, expected (episodes, rows)"
            )
        return shape

    def _rows(self, place: _Place, name: str) -> np.ndarray:
        """A tensor's rows of one episode, first axis the rows."""
        file = self._file(place.file)
        return file.read(name, slice(None) if len(self._batch(file)) == 1 else place.row)

    def _numbers(self, file: TensorFile) -> np.ndarray:
        """Number of the task of every episode of a file, int64."""
        values = file.read(TASK, slice(None)).astype(np.int64)
        if len(self._batch(file)) == 1:
            values = values[None]
        values = values.reshape(len(values), -1)
        if (values != values[:, :1]).any():
            raise DataError(f"{file.path}: an episode of several tasks")
        return values[:, 0]

    def _chosen(self) -> int | None:
        """The number of the task that is kept; None in a set without numbers."""
        only = self._options.only
        if not self.has_tasks:
            if only is not None:
                raise ConfigError(f"--only {only!r}: {self.name} has one task; leave it out")
            return None
        there: Counter[int] = Counter()
        for number in range(len(self._files)):
            there.update(self._numbers(self._file(number)).tolist())
        if only is None and len(there) == 1:
            return next(iter(there))
        names = {task_name(number): number for number in there}
        names |= {str(number): number for number in there}
        if only in names:
            return names[only]
        listed = ", ".join(f"{task_name(n)} ({n}, {there[n]:,} episodes)" for n in sorted(there))
        given = "it has many tasks; pass --only" if only is None else f"no task {only!r}"
        near = nearest(only, names) if only else ""
        raise ConfigError(f"{self.name}: {given}{near}; it has {listed}")

    def _find_places(self, chosen: int | None) -> Iterator[_Place]:
        for number in range(len(self._files)):
            file = self._file(number)
            batch = self._batch(file)
            count = batch[0] if len(batch) == 2 else 1
            rows = range(count)
            if chosen is not None:
                rows = np.flatnonzero(self._numbers(file) == chosen).tolist()
            yield from (_Place(number, row) for row in rows)

    def _short(self, key: str) -> str:
        return key.removeprefix(f"{OBSERVATION}.") if key != OBSERVATION else "state"

    def _field(self, key: str, known: StepSpec | None) -> SourceField:
        """The field of a tensor, without its padding."""
        if not self._places:
            raise DataError(f"{self.name}: no episode")
        file = self._file(self._places[0].file)
        shape = file.shape(key)[len(self._batch(file)) :]
        field = infer_field(
            file.dtype(key), shape, lambda: (0, MAX_DISCRETE - 1), f"{self.name}: {key}",
            image_size=self._options.image_size, frames=self._options.pictures,
        )  # fmt: skip
        if field.kind != "continuous":
            if key == ACTION:
                raise DataError(f"{self.name}: {ACTION} is {field.kind}, expected floats")
            return field
        if len(shape) != 1:
            return field
        width = self._width(key, shape[0], known)
        self._widths[key] = width
        if width < shape[0]:
            self.notes += (
                f"{key}: {width} of {shape[0]} numbers kept; the others fill it up to a width",
            )
        return replace(field, shape=(width,))

    def _width(self, key: str, width: int, known: StepSpec | None) -> int:
        """Number of entries of a vector that are the task's own."""
        option_name = "action_dim" if key == ACTION else "observation_dim"
        given = getattr(self._options, option_name)
        if given is not None:
            if given > width:
                name = option_name.replace("_", "-")
                raise ConfigError(f"--{name} {given}: {key} has {width} numbers")
            return int(given)
        if not self.has_tasks:
            return width
        used = self._used(key, width)
        size = None if known is None else _size(known, key)
        return size if size is not None and used <= size <= width else max(used, 1)

    def _used(self, key: str, width: int) -> int:
        """One past the last number that is not zero in any row."""
        is_used = np.zeros(width, dtype=bool)
        first = 1 if key == ACTION else 0
        for number in sorted({place.file for place in self._places}):
            file = self._file(number)
            rows = [place.row for place in self._places if place.file == number]
            for start in range(0, len(rows), _SLAB):
                part = slice(None) if len(self._batch(file)) == 1 else rows[start : start + _SLAB]
                values = file.read(key, part)
                values = values[first:] if values.ndim == 2 else values[:, first:]
                is_used |= (values != 0).reshape(-1, width).any(axis=0)
        return int(np.flatnonzero(is_used)[-1]) + 1 if is_used.any() else 0

    def _load(self, place: _Place) -> SourceEpisode:
        file = self._file(place.file)
        rewards = self._rows(place, REWARD).reshape(-1)
        where = f"{file.path} episode {place.row}"
        if rewards.size and np.isfinite(rewards[0]) and rewards[0] != 0:
            if not self._options.drop_first:
                raise BadEpisode(
                    f"{where}: reward {rewards[0]:g} in row 0, where TD-MPC2 has none; pass "
                    "--drop-first to ignore it"
                )
        flags = {
            name: bool(np.nan_to_num(self._rows(place, name)).any())
            for name in (TERMINATED, SUCCESS)
            if name in file.names
        }
        terminated = flags.get(TERMINATED, False)
        return SourceEpisode(
            observations={self._short(key): self._cut(place, key) for key in self._keys},
            actions=self._cut(place, ACTION)[1:],
            rewards=rewards[1:],
            terminated=terminated,
            truncated=not terminated,
            success=flags.get(SUCCESS),
            metadata={"file": file.path.name, "row": place.row},
        )

    def _cut(self, place: _Place, key: str) -> np.ndarray:
        values = self._rows(place, key)
        return values[:, : self._widths[key]] if key in self._widths else values


def _size(known: StepSpec, key: str) -> int:
    """Numbers of the actions, or of all continuous observations, of a spec."""
    if key == ACTION:
        return known.action.size
    return sum(field.size for field in known.observation.values() if field.kind == "continuous")


def task_name(number: int) -> str:
    """TD-MPC2's name of a task of mt30 and mt80; its number beyond them."""
    return TASKS[number] if 0 <= number < len(TASKS) else str(number)


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{path}: no such folder or file")
    files = sorted(path.glob("*.pt"), key=lambda file: natural(file.name))
    if not files:
        raise ConfigError(f"{path}: no .pt file in it")
    return files


def import_tdmpc2(
    source: str, out: Path, options: TdMpc2Options, context: ImportContext
) -> ImportSummary:
    """Imports one task of TD-MPC2's data; see `import_episodes`."""
    known = None if options.task is None else context.known_spec(options.task)
    return import_episodes(TdMpc2Source(Path(source), options, known), out, options, context)


IMPORTERS.register("tdmpc2")(
    ImportKind(
        run=import_tdmpc2,
        options=TdMpc2Options,
        help="TD-MPC2's data (mt30, mt80): TensorDicts in .pt files.",
        source_help="A folder of .pt files, or one file.",
        example="db1 import tdmpc2 mt80/ --only mw-reach --out data/tdmpc2/mw-reach",
    )
)
