"""The cache of demonstrations that the released DB1 reads: one NumPy file an episode.

    observations/<i>.npy  or  observations/<key>/<i>.npy     (T, ...)
    actions/<i>.npy                                          (T, ...)
    rewards/<i>.npy                                          (T,)
    path_lengths.npy                                         (episodes,) T of each episode
    traj_returns.npy                                         (episodes,) return of each episode

Lengths and returns of the files are checked against the last two. Files are loaded without
unpickling; an array of objects is refused.

Source: public DB1 release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from db1.errors import DataError
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
from db1.importers.fingerprint import fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary

LENGTHS_FILE = "path_lengths.npy"
RETURNS_FILE = "traj_returns.npy"
_RELATIVE_TOLERANCE = 1e-4
_ABSOLUTE_TOLERANCE = 1e-3
"""Returns of float32 sums over thousands of steps differ by this much."""


@dataclass(frozen=True, kw_only=True)
class Db1CacheOptions(EpisodeOptions):
    """Options of `db1 import db1-cache`."""


class Db1CacheSource(EpisodeSource):
    """Episodes of one cache folder.

    Args:
        folder: The cache of one task.
        options: How fields are converted.
        knows_task: Whether the task's step spec is known: integers need no scan then.

    Raises:
        DataError: A missing file or folder, or other numbers of episodes.
    """

    def __init__(self, folder: Path, options: EpisodeOptions, *, knows_task: bool = False) -> None:
        self.folder = folder
        self.name = str(resolved(folder))
        lengths, returns = (_load_array(folder / f) for f in (LENGTHS_FILE, RETURNS_FILE))
        if lengths.dtype.kind not in "iu" or lengths.ndim != 1 or lengths.shape != returns.shape:
            raise DataError(
                f"{folder}: {LENGTHS_FILE} is {lengths.dtype} {lengths.shape} and {RETURNS_FILE} "
                f"{returns.shape}, expected integers (episodes,) and (episodes,)"
            )
        self._lengths, self._returns = lengths, returns.astype(np.float64)
        self.num_episodes = len(lengths)
        if self.num_episodes == 0:
            raise DataError(f"{folder}: no episode")
        self._folders = _observation_folders(folder)
        self.origin = {
            "kind": "db1-cache",
            "source": self.name,
            "fingerprint": fingerprint([folder / LENGTHS_FILE, folder / RETURNS_FILE]),
        }
        self.observation = {
            key: self._field(part, options, not knows_task) for key, part in self._folders.items()
        }
        self.action = action_field(self._field(folder / "actions", options, True), options)

    def episodes(self, first: int) -> Iterator[Load]:
        for number in range(first, self.num_episodes):
            yield partial(self._load, number)

    def returns(self) -> Iterator[float]:
        yield from self._returns.tolist()

    def _load(self, number: int) -> SourceEpisode:
        where = f"{self.name} episode {number}"
        observations = {
            key: _load_array(_file(part, number)) for key, part in self._folders.items()
        }
        actions = _load_array(_file(self.folder / "actions", number))
        rewards = reward_array(_load_array(_file(self.folder / "rewards", number)))
        if len(actions) != self._lengths[number]:
            raise BadEpisode(
                f"{where}: {len(actions)} actions, {LENGTHS_FILE} says {self._lengths[number]}"
            )
        total, said = float(np.sum(rewards, dtype=np.float64)), float(self._returns[number])
        tolerance = _RELATIVE_TOLERANCE * abs(said) + _ABSOLUTE_TOLERANCE
        if np.isfinite(total) and not abs(total - said) <= tolerance:
            raise BadEpisode(f"{where}: return {total:.6g}, {RETURNS_FILE} says {said:.6g}")
        return SourceEpisode(observations=observations, actions=actions, rewards=rewards)

    def _field(self, part: Path, options: EpisodeOptions, is_scanned: bool) -> SourceField:
        first = _load_array(_file(part, int(np.argmax(self._lengths > 0))))
        scan = partial(self._value_range, part) if is_scanned else lambda: (0, MAX_DISCRETE - 1)
        return infer_field(
            first.dtype, first.shape[1:], scan, str(part),
            image_size=options.image_size, frames=options.pictures,
        )  # fmt: skip

    def _value_range(self, part: Path) -> tuple[int, int]:
        low, high = 0, 0
        for number in range(self.num_episodes):
            values = _load_array(_file(part, number))
            if values.size:
                low, high = min(low, int(values.min())), max(high, int(values.max()))
        return low, high


def import_db1_cache(
    source: str, out: Path, options: Db1CacheOptions, context: ImportContext
) -> ImportSummary:
    """Imports one cache folder; see `import_episodes`."""
    knows_task = options.task is not None and context.known_spec(options.task) is not None
    reader = Db1CacheSource(Path(source), options, knows_task=knows_task)
    return import_episodes(reader, out, options, context)


def _observation_folders(folder: Path) -> Mapping[str, Path]:
    """Folder of the observation files by key; `observation` alone has no key in the cache."""
    root = folder / "observations"
    if not root.is_dir():
        raise DataError(f"{root}: missing; expected <i>.npy or <key>/<i>.npy in it")
    keys = sorted(part.name for part in root.iterdir() if part.is_dir())
    if not keys:
        return {"state": root}
    if any(root.glob("*.npy")):
        raise DataError(f"{root}: both <i>.npy files and folders {keys}; expected one of the two")
    return {key: root / key for key in keys}


def _file(part: Path, number: int) -> Path:
    return part / f"{number}.npy"


def _load_array(file: Path) -> np.ndarray:
    """Loads a .npy file without unpickling.

    Raises:
        DataError: It is missing, truncated, or an array of objects.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{file}: missing; expected the cache of the released DB1") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{file}: not a plain NumPy array, or truncated ({error}); db1 unpickles nothing"
        ) from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise DataError(f"{file}: no array with a first axis")
    return array


IMPORTERS.register("db1-cache")(
    ImportKind(
        run=import_db1_cache,
        options=Db1CacheOptions,
        help="The cache of demonstrations of the released DB1.",
        source_help="Folder with observations/, actions/, rewards/, path_lengths.npy, ...",
        example="db1 import db1-cache cache/reach-v2 --task metaworld/reach-v3 "
        "--out data/metaworld/reach-v3",
    )
)
