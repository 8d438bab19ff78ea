"""D4RL's HDF5 files: all steps of all episodes, one after the other.

    observations (N, ...)   actions (N, ...)   rewards (N,)   terminals (N,)   timeouts (N,)

Step i is the last of its episode where terminals[i] (the task ended) or timeouts[i] (cut off). A
goal that is held, with terminals on step after step, ends an episode once (--terminals). Files
without `timeouts` are cut after the most steps of the task (D4RL's own number); --max-steps, and
--cut-at-jumps wherever next_observations[i] differs from observations[i + 1], cut any file.
`infos` and `metadata` are ignored. Steps after the last end are an episode that was still
running: it is dropped unless --keep-incomplete.

D4RL's actions lie in [-1, 1] already. Random and expert returns: `d4rl_datasets.json`.

Source: Fu et al. 2020, arXiv:2004.07219; https://github.com/Farama-Foundation/D4RL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of, nearest
from db1.files import resolved
from db1.formats.fields import MAX_DISCRETE, SourceField, infer_field
from db1.formats.hdf5 import array_of, check_lengths, open_hdf5, read_rows, readable, value_range
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.json_shape import parse_json
from db1.ranges import Count

REQUIRED = ("observations", "actions", "rewards", "terminals")
OBSERVATION_KEY = "state"
_SUFFIXES = (".hdf5", ".h5")
_BLOCK = 65_536
TERMINALS = ("first", "each", "none")


@dataclass(frozen=True, kw_only=True)
class D4rlOptions(EpisodeOptions):
    """Options of `db1 import d4rl`."""

    dataset: str | None = option(
        None, "D4RL's name of the data set, such as hopper-medium-v2; default: from the file name."
    )
    max_steps: Count | None = option(
        None,
        "Also end episodes after this many steps; default without timeouts: D4RL's own number.",
    )
    cut_at_jumps: bool = option(
        False, "Also end episodes where next_observations does not continue."
    )
    terminals: str = option(
        TERMINALS[0],
        "`first`: a goal that is held, with terminals on step after step, ends an episode once; "
        "`each`: every terminal ends one; `none`: timeouts alone do.",
    )
    keep_incomplete: bool = option(False, "Keep the steps after the last end as an episode.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("--terminals", self.terminals, TERMINALS)


@cache
def datasets() -> Mapping[str, Mapping[str, Any]]:
    """D4RL's data sets by name: `file`, `random` and `expert` return, `max_steps`."""
    text = resources.files("db1.importers").joinpath("d4rl_datasets.json").read_text("utf-8")
    return parse_json(text)["datasets"]


def dataset_name(path: Path, given: str | None) -> str | None:
    """D4RL's name of a file's data set; None for a file that D4RL does not publish.

    Raises:
        ConfigError: `given` is none of D4RL's names.
    """
    known = datasets()
    if given is not None:
        if given not in known:
            raise ConfigError(f"--dataset {given!r}: unknown to D4RL{nearest(given, known)}")
        return given
    if path.stem in known:
        return path.stem
    return next((name for name, entry in known.items() if entry["file"] == path.name), None)


class D4rlSource(EpisodeSource):
    """Episodes of one D4RL file.

    Args:
        path: The HDF5 file.
        options: How episodes are found.
        knows_task: Whether the task's step spec is known: integers need no scan then.

    Raises:
        DataError: A missing array, arrays of different lengths, a truncated file, or no way to
            tell where episodes end.
    """

    def __init__(self, path: Path, options: D4rlOptions, *, knows_task: bool = False) -> None:
        self.path = path
        self.name = str(resolved(path))
        dataset = dataset_name(path, options.dataset)
        entry: Mapping[str, Any] = datasets()[dataset] if dataset else {}
        self.task = f"d4rl/{dataset or path.stem}"
        self.references = {key: entry[key] for key in ("random", "expert") if key in entry}
        self.origin = {
            "kind": "d4rl",
            "source": self.name,
            "dataset": dataset,
            "fingerprint": fingerprint([path]),
        }
        self._file = open_hdf5(path)
        try:
            with readable(path):
                self._arrays = {key: array_of(self._file, key, path) for key in REQUIRED}
                self.num_steps = check_lengths(list(self._arrays.values()), path)
                self._terminals = self._flags("terminals")
                max_steps = options.max_steps or entry.get("max_steps")
                self._timeouts = self._optional_flags("timeouts")
                is_last, how = self._find_ends(options, max_steps)
                self._starts, self._ends, notes = self._cut(is_last, options)
                self.notes = ((how,) if how else ()) + tuple(notes)
                state = self._field("observations", options, knows_task)
                self.observation = {OBSERVATION_KEY: state}
                self.action = action_field(self._field("actions", options, knows_task), options)
        except BaseException:
            self._file.close()
            raise
        self.num_episodes = len(self._ends)

    def episodes(self, first: int) -> Iterator[Load]:
        for number in range(first, self.num_episodes):
            yield partial(self._load, int(self._starts[number]), int(self._ends[number]))

    def returns(self) -> Iterator[float]:
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            rewards = read_rows(self._arrays["rewards"], start, end, self.path)
            yield float(np.sum(rewards, dtype=np.float64))

    def close(self) -> None:
        self._file.close()

    def _load(self, start: int, end: int) -> SourceEpisode:
        rows = {
            key: read_rows(self._arrays[key], start, end, self.path)
            for key in ("observations", "actions", "rewards")
        }
        terminated = bool(self._terminals[end - 1])
        return SourceEpisode(
            observations={OBSERVATION_KEY: rows["observations"]},
            actions=rows["actions"],
            rewards=rows["rewards"],
            terminated=terminated,
            truncated=not terminated,
            metadata={"first_step": start},
        )

    def _flags(self, key: str) -> np.ndarray:
        return read_rows(self._arrays[key], 0, self.num_steps, self.path).reshape(-1).astype(bool)

    def _optional_flags(self, key: str) -> np.ndarray | None:
        if key not in self._file:
            return None
        self._arrays[key] = array_of(self._file, key, self.path)
        check_lengths(list(self._arrays.values()), self.path)
        return self._flags(key)

    def _field(self, key: str, options: D4rlOptions, knows_task: bool) -> SourceField:
        array = self._arrays[key]
        scan = partial(value_range, array, self.path)
        return infer_field(
            array.dtype,
            array.shape[1:],
            (lambda: (0, MAX_DISCRETE - 1)) if knows_task and key == "observations" else scan,
            f"{self.path}: {key}",
            image_size=options.image_size,
            frames=options.pictures,
        )

    def _find_ends(self, options: D4rlOptions, max_steps: int | None) -> tuple[np.ndarray, str]:
        """Ends of episodes, bool (N,), True at each last step, and what to tell the user."""
        is_last = self._terminals & (options.terminals != "none")
        has_timeouts = self._timeouts is not None
        if has_timeouts:
            is_last |= self._timeouts
            max_steps = options.max_steps  # D4RL's own number is in the timeouts
        elif options.terminals == "none":
            raise DataError(f"{self.path}: no array 'timeouts', without which no --terminals none")
        num_marked, how = int(is_last.sum()), ""
        why = "" if has_timeouts else "no timeouts in the file: "
        if options.cut_at_jumps:
            is_last |= self._jumps()
            how = f"{why}cut where next_observations does not go on"
        if max_steps is not None and (options.max_steps or not options.cut_at_jumps):
            is_last = _cut_every(is_last, max_steps)
            how = f"{how or why}{' and ' if how else 'cut '}after {max_steps} steps"
        if has_timeouts and how:
            how += f", {int(is_last.sum()) - num_marked} more ends than the file marks"
        if not has_timeouts and not how:
            raise DataError(
                f"{self.path}: no array 'timeouts' and no data set of D4RL, so nothing says where "
                "an episode ends; pass --max-steps, --cut-at-jumps or --dataset"
            )
        return is_last, how

    def _cut(
        self, is_last: np.ndarray, options: D4rlOptions
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """First and one past the last step of each episode, int64, and what to tell the user."""
        ends = np.flatnonzero(is_last) + 1
        if not len(ends) and not options.keep_incomplete:
            raise DataError(
                f"{self.path}: {self.num_steps} steps, and none of them is marked as the last one "
                "of an episode; --keep-incomplete keeps them as one episode, and without the array "
                "'timeouts' --max-steps cuts them"
            )
        num_left, notes = self.num_steps - (int(ends[-1]) if len(ends) else 0), []
        if num_left and options.keep_incomplete:
            ends = np.append(ends, self.num_steps)
            notes.append(f"kept the last, incomplete episode of {num_left} steps")
        elif num_left:
            notes.append(
                f"dropped the last, incomplete episode of {num_left} steps (--keep-incomplete)"
            )
        starts = np.concatenate([[0], ends[:-1]])[: len(ends)]
        held = self._held()[starts] & (options.terminals == "first")
        if held.any():
            notes.append(
                f"dropped {int(held.sum())} steps at a goal that is held after the end of an "
                "episode (--terminals each makes episodes of them)"
            )
        return starts[~held], ends[~held], notes

    def _held(self) -> np.ndarray:
        """bool (N,): a terminal right after a terminal of the same trajectory."""
        held = np.zeros_like(self._terminals)
        held[1:] = self._terminals[1:] & self._terminals[:-1]
        if self._timeouts is not None:
            held[1:] &= ~self._timeouts[:-1]
        return held

    def _jumps(self) -> np.ndarray:
        """bool (N,): next_observations[i] is not observations[i + 1]; read in blocks."""
        following = array_of(self._file, "next_observations", self.path)
        check_lengths([*self._arrays.values(), following], self.path)
        is_jump = np.zeros(self.num_steps, dtype=bool)
        for first in range(0, self.num_steps - 1, _BLOCK):
            last = min(first + _BLOCK, self.num_steps - 1)
            here = read_rows(following, first, last, self.path)
            there = read_rows(self._arrays["observations"], first + 1, last + 1, self.path)
            is_jump[first:last] = (here != there).reshape(last - first, -1).any(axis=1)
        return is_jump


def import_d4rl(
    source: str, out: Path, options: D4rlOptions, context: ImportContext
) -> ImportSummary:
    """Imports one D4RL file; see `import_episodes`."""
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"{source}: no such file; expected one of {_SUFFIXES}")
    name = options.task or f"d4rl/{dataset_name(path, options.dataset) or path.stem}"
    reader = D4rlSource(path, options, knows_task=context.known_spec(name) is not None)
    return import_episodes(reader, out, options, context)


def _cut_every(is_last: np.ndarray, max_steps: int) -> np.ndarray:
    """Marks also every step at which an episode has lasted `max_steps` steps."""
    marked = is_last.copy()
    start = 0
    for end in [*(np.flatnonzero(is_last) + 1).tolist(), len(is_last)]:
        marked[start + max_steps - 1 : end : max_steps] = True
        start = end
    return marked


IMPORTERS.register("d4rl")(
    ImportKind(
        run=import_d4rl,
        options=D4rlOptions,
        help="D4RL's HDF5 files.",
        source_help="The .hdf5 file.",
        example="db1 import d4rl hopper_expert-v2.hdf5 --task mujoco/Hopper-v5 "
        "--out data/mujoco/Hopper-v5",
    )
)
