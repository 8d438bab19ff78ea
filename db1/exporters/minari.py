"""An episode store -> a Minari data set that `minari.MinariDataset(OUT / "data")` opens.

A store that was imported from Minari gets its spaces back, as far as its fields were stored as they
were (no resized pictures, no --task that renames them); any other store gets the spaces of its own
spec: a Dict of its observations, actions in [-1, 1]. The final observation comes from the metadata
of the import, else the last one is repeated and the episode says so (`final_observation:
"repeated"` in its Minari metadata).

A process of its own writes: the HDF5 library ends the one that it runs in where a disk fills up.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.files import resolved
from db1.formats.fields import SourceField, restore_actions
from db1.formats.pictures import restore_pictures
from db1.formats.spaces import (
    Space,
    action_of,
    nest_observation,
    observation_fields,
    parse_space,
    space_of_spec,
)
from db1.importers.minari import FINAL_KEY
from db1.importers.registry import Progress, no_progress
from db1.processes.jobs import Job, run_jobs
from db1.processes.supervised import Report
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import Episode, StepSpec

FORMATS = ("hdf5", "arrow")

_SILENCE = 600.0
"""Seconds that one episode may take to be written."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """Content of an export: its id, episodes, steps, and how many final observations it repeats."""

    dataset_id: str
    num_episodes: int
    num_steps: int
    num_repeated: int


def export_minari(
    store: Path,
    out: Path,
    *,
    dataset_id: str = "db1/export-v0",
    data_format: str = FORMATS[0],
    progress: Progress = no_progress,
) -> ExportSummary:
    """Writes a store as a Minari data set.

    The writing process is spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        store: Folder of the episode store.
        out: Folder of the data set; must not exist.
        dataset_id: Minari's id, namespace/name-v0.
        data_format: `hdf5` or `arrow`.
        progress: Called after each episode.

    Raises:
        DataError: A broken store, an existing folder, a full disk; nothing is left of `out` then.
        MissingExtra: Without the package minari.
    """
    if data_format not in FORMATS:
        raise DataError(f"data format {data_format!r}, expected one of {FORMATS}")
    if out.exists():
        raise DataError(f"{out} exists; export to another folder")
    if importlib.util.find_spec("minari") is None:
        raise MissingExtra("minari", "import", "writing Minari data sets")
    episodes = EpisodeStore(store)
    _layout(episodes)
    partial = resolved(out).with_name(f".{out.name}.partial")  # minari joins relative ones twice
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "data").mkdir(parents=True)
        num_repeated = _write_apart((store, partial / "data", dataset_id, data_format), progress)
        partial.rename(out)
    except (OSError, _NotWritten) as error:
        raise DataError(f"{out}: cannot write the data set ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ExportSummary(
        dataset_id=dataset_id,
        num_episodes=episodes.num_episodes,
        num_steps=episodes.num_steps,
        num_repeated=num_repeated,
    )


class _NotWritten(Exception):
    """The reason that the writing process gave, or how it ended."""


def _write_apart(request: tuple[Path, Path, str, str], progress: Progress) -> int:
    """Writes in another process; returns how many final observations it repeated."""
    outcomes = run_jobs(
        [Job(key="minari", group="minari", work=_write, argument=request)],
        processes=1,
        timeout=_SILENCE,
        retries=0,
        on_report=lambda _, done: progress(*done),
    )
    if outcomes.failures:
        reason = outcomes.failures["minari"].removeprefix("minari: ")
        if "ended with status" in reason:
            reason = "the writing process ended, as HDF5 does where a disk is full"
        raise _NotWritten(reason)
    return outcomes.results["minari"]


def _write(request: tuple[Path, Path, str, str], report: Report) -> int:
    """The work of the writing process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what HDF5 says at its end; errors are sent
    store, folder, dataset_id, data_format = request
    exporter = _Exporter(EpisodeStore(store))
    exporter.write(folder, dataset_id, data_format, lambda *done: report(done))
    return exporter.num_repeated


class _Exporter:
    """Turns the episodes of one store back into Minari's."""

    def __init__(self, store: EpisodeStore) -> None:
        self.store = store
        self.num_repeated = 0
        self.space, self.action_space, self.fields, self.action = _layout(store)

    def write(self, folder: Path, dataset_id: str, data_format: str, progress: Progress) -> None:
        import json

        import minari
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.dataset.minari_storage import MinariStorage
        from minari.serialization import deserialize_space

        parse_dataset_id(dataset_id)
        storage = MinariStorage.new(
            folder,
            observation_space=deserialize_space(json.dumps(self.space)),
            action_space=deserialize_space(json.dumps(self.action_space)),
            data_format=data_format,
            jpeg_encoding=False,
        )
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "description": f"db1 store of {self.store.header.task}",
            }
        )
        storage.update_episodes(self._buffers(dataset_id, progress))
        repeated = [{"final_observation": "repeated"}] * len(self._repeated)
        storage.update_episode_metadata(repeated, self._repeated)

    def _buffers(self, name: str, progress: Progress) -> Iterator[Any]:
        from minari.data_collector import EpisodeBuffer

        self._repeated: list[int] = []
        for number in range(self.store.num_episodes):
            episode = self.store.read(number)
            flat, is_repeated = self._observations(episode)
            if is_repeated:
                self._repeated.append(number)
            terminations, truncations = np.zeros((2, len(episode)), dtype=bool)
            terminations[-1] = episode.terminated
            truncations[-1] = episode.metadata.get("truncated", not episode.terminated)
            yield EpisodeBuffer(
                seed=episode.seed if episode.seed >= 0 else None,
                observations=nest_observation(self.space, flat),
                actions=restore_actions(self.action, episode.actions),
                rewards=episode.rewards,
                terminations=terminations,
                truncations=truncations,
            )
            progress(name, number + 1, self.store.num_episodes)
        self.num_repeated = len(self._repeated)

    def _observations(self, episode: Episode) -> tuple[dict[str, Any], bool]:
        """T + 1 observations by key, and whether a final one is repeated."""
        final = episode.metadata.get(FINAL_KEY, {})
        flat: dict[str, Any] = {}
        for key, field in self.fields.items():
            values = _restored(field, episode.observations[key])
            last = final.get(key)
            if field.kind == "text":
                flat[key] = [*values.tolist(), values[-1] if last is None else last]
                continue
            row = values[-1:] if last is None else np.asarray([last], dtype=values.dtype)
            flat[key] = np.concatenate([values, row])
        return flat, any(key not in final for key in self.fields)


def _layout(store: EpisodeStore) -> tuple[Space, Space, Mapping[str, SourceField], SourceField]:
    """Observation space, action space, and the fields that lead back to them."""
    origin, spec = store.header.origin, store.header.spec
    if origin.get("kind") == "minari":
        options = origin.get("options", {})
        space = parse_space(origin["observation_space"], str(store.path))
        action_space = parse_space(origin["action_space"], str(store.path))
        fields = observation_fields(space, "", image_size=options.get("image_size"))
        action = action_of(action_space, str(store.path))
        if _is_as_it_was(fields, action, spec) and not {"action_low", "num_actions"} & {*options}:
            return space, action_space, fields, action
    space, action_space = space_of_spec(spec)
    return space, action_space, observation_fields(space, ""), action_of(action_space, "action")


def _is_as_it_was(fields: Mapping[str, SourceField], action: SourceField, spec: StepSpec) -> bool:
    pictures = [field.picture for field in fields.values() if field.picture is not None]
    return (
        {key: field.spec for key, field in fields.items()} == dict(spec.observation)
        and action.spec == spec.action
        and all(picture.is_reversible for picture in pictures)
    )


def _restored(field: SourceField, values: np.ndarray) -> np.ndarray:
    if field.kind == "image" and field.picture is not None:
        return restore_pictures(values, field.picture, field.shape)
    if field.kind == "text":
        return values
    if field.kind == "discrete":
        return (values.astype(np.int64) + field.start).astype(field.dtype)
    return values.astype(field.dtype)
