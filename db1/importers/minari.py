"""Minari data sets (HDF5 and Arrow), from a folder or by id.

Minari stores T + 1 observations of T steps; the last one becomes the episode's metadata
`final_observation` (where it is numbers or text of at most 1,024 values), so that `export_minari`
can give it back. Infos are ignored. Box actions are rescaled from the bounds of the action space
to [-1, 1]. See `spaces.py` for the fields, `pictures.py` for images.

The spaces must stand in the data set's metadata.json: db1 does not build the environment that a
foreign file names.

Source: https://minari.farama.org ; package `minari` (without its extra `create`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from db1.errors import DataError, MissingExtra
from db1.files import resolved
from db1.formats.fields import BadEpisode, SourceField
from db1.formats.hdf5 import open_hdf5, read_rows, readable
from db1.formats.spaces import action_of, flatten_observation, observation_fields, parse_space
from db1.importers.episode_import import import_episodes
from db1.importers.episode_source import (
    EpisodeOptions,
    EpisodeSource,
    Load,
    SourceEpisode,
    action_field,
)
from db1.importers.fingerprint import fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary
from db1.json_shape import parse_json, parse_json_file

FINAL_KEY = "final_observation"
MAX_FINAL_SIZE = 1_024
HDF5_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
_KEPT = (
    "dataset_id",
    "minari_version",
    "algorithm_name",
    "author",
    "code_permalink",
    "data_format",
)
_SPACES = ("observation_space", "action_space")


@dataclass(frozen=True, kw_only=True)
class MinariOptions(EpisodeOptions):
    """Options of `db1 import minari`."""


class MinariSource(EpisodeSource):
    """Episodes of one Minari data set on disk.

    Args:
        folder: The data set's folder `data`.
        options: How fields are converted.

    Raises:
        DataError: No Minari data set, spaces that db1 has no fields for, or a truncated file.
    """

    def __init__(self, folder: Path, options: EpisodeOptions) -> None:
        storage_class = _storage_class()
        self.folder = folder
        metadata = read_metadata(folder)
        self.name = str(metadata.get("dataset_id") or resolved(folder))
        file = folder / METADATA_FILE
        self._space = parse_space(metadata["observation_space"], f"{file}: observation_space")
        action = parse_space(metadata["action_space"], f"{file}: action_space")
        self.observation = observation_fields(
            self._space,
            f"{file}: observation_space",
            image_size=options.image_size,
            frames=options.pictures,
        )
        self.action = action_field(action_of(action, f"{file}: action_space"), options)
        self.num_episodes = metadata["total_episodes"]
        self.task = f"minari/{metadata['dataset_id']}" if metadata.get("dataset_id") else None
        self.references = _references(metadata)
        self.origin = {
            "kind": "minari",
            "source": self.name,
            **{key: metadata[key] for key in _KEPT if metadata.get(key)},
            **{key: metadata[key] for key in _SPACES},
            "environment": _environment_id(metadata),
            "fingerprint": fingerprint([_first_file(folder)]),
        }
        if metadata.get("data_format", "hdf5") == "hdf5":
            open_hdf5(folder / HDF5_FILE).close()
        try:
            self._storage = storage_class.read(folder)
        except Exception as error:  # minari and gymnasium raise whatever the metadata leads to
            raise DataError(f"{folder}: minari cannot open this data set ({error!r})") from None

    def episodes(self, first: int) -> Iterator[Load]:
        for number in range(first, self.num_episodes):
            yield partial(self._load, number)

    def returns(self) -> Iterator[float]:
        if not (self.folder / HDF5_FILE).exists():
            for number in range(self.num_episodes):
                yield float(np.sum(self._read(number)["rewards"], dtype=np.float64))
            return
        path = self.folder / HDF5_FILE
        with open_hdf5(path) as file:
            for number in range(self.num_episodes):
                rewards = file.get(f"episode_{number}/rewards")
                if rewards is None:
                    raise DataError(f"{path}: no array 'episode_{number}/rewards'")
                yield float(np.sum(read_rows(rewards, 0, len(rewards), path), dtype=np.float64))

    def _load(self, number: int) -> SourceEpisode:
        raw = self._read(number)
        try:
            flat = flatten_observation(self._space, raw["observations"], self.observation)
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.name} episode {number}: no observation {error}, expected "
                f"{sorted(self.observation)}"
            ) from None
        with readable(self.folder):
            (found,) = self._storage.get_episode_metadata([number])
        terminations, truncations = np.asarray(raw["terminations"]), np.asarray(raw["truncations"])
        metadata: dict[str, Any] = {"id": found["id"]} if isinstance(found.get("id"), int) else {}
        final = final_observation(self.observation, flat, len(raw["actions"]))
        return SourceEpisode(
            observations=flat,
            actions=raw["actions"],
            rewards=raw["rewards"],
            terminated=bool(terminations[-1:].any()),
            truncated=bool(truncations[-1:].any()),
            seed=int(found["seed"]) if isinstance(found.get("seed"), int) else -1,
            metadata=metadata | ({FINAL_KEY: final} if final else {}),
        )

    def _read(self, number: int) -> dict[str, Any]:
        """One episode as Minari gives it.

        Raises:
            DataError: It is missing, or lacks an array.
            BadEpisode: It cannot be decoded.
        """
        where = f"{self.name} episode {number}"
        try:
            for raw in self._storage.get_episodes([number]):
                return raw
        except (KeyError, FileNotFoundError) as error:
            raise DataError(f"{where}: missing, or it lacks an array ({error})") from None
        except (
            OSError, RuntimeError, ValueError, IndexError, AssertionError, AttributeError,
            TypeError, Image.DecompressionBombError,
        ) as error:  # fmt: skip
            raise BadEpisode(f"{where}: cannot be decoded ({error!r})") from None
        raise BadEpisode(f"{where}: holds no step")


def import_minari(
    source: str, out: Path, options: MinariOptions, context: ImportContext
) -> ImportSummary:
    """Imports one Minari data set; see `import_episodes`."""
    return import_episodes(MinariSource(find_dataset(source), options), out, options, context)


def find_dataset(source: str) -> Path:
    """The folder `data` of a data set: a given folder, a local id, or a downloaded one.

    Raises:
        DataError: Neither a folder of a data set nor an id that Minari can download.
    """
    for folder in (Path(source), Path(source) / "data"):
        if (folder / "metadata.json").is_file():
            return folder
    if Path(source).exists():
        raise DataError(f"{source}: not a Minari data set (it has no metadata.json or data/)")
    _storage_class()
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage.datasets_root_dir import get_dataset_path
    from minari.storage.hosting import download_dataset

    try:
        parse_dataset_id(source.split("://", 1)[-1])
    except (ValueError, TypeError):
        raise DataError(
            f"{source}: no such folder, and no id of a Minari data set (namespace/name-v0)"
        ) from None
    folder = get_dataset_path(source) / "data"
    if not folder.exists():
        try:
            download_dataset(source)
        except Exception as error:  # every cloud library raises its own
            raise DataError(
                f"{source}: not in {folder.parent}, and the download failed ({error}); without a "
                f"network run `minari download {source}` elsewhere and pass the folder"
            ) from None
    return folder


def read_metadata(folder: Path) -> dict[str, Any]:
    """The data set's metadata.json, with both spaces and its number of episodes.

    Raises:
        DataError: It is unreadable, lacks a space, or a value has another kind.
    """
    file = folder / METADATA_FILE
    try:
        metadata = parse_json_file(file)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: unreadable ({error}); not a Minari data set") from None
    if not isinstance(metadata, dict):
        raise DataError(f"{file}: got {str(metadata)[:60]!r}, expected an object with the spaces")
    total = metadata.setdefault("total_episodes", 0)
    if not isinstance(total, int) or isinstance(total, bool) or total < 0:
        raise DataError(f"{file}: total_episodes is {json.dumps(total)[:60]}, expected a number")
    name = metadata.get("dataset_id")
    if name is not None and not isinstance(name, str):
        raise DataError(f"{file}: dataset_id is {json.dumps(name)[:60]}, expected a text")
    missing = [key for key in _SPACES if not isinstance(metadata.get(key), str)]
    if missing:
        raise DataError(
            f"{file}: no {' and no '.join(missing)}, and db1 does not build the environment that a "
            "file names; write the data set again with a newer minari, which stores the spaces"
        )
    return metadata


def final_observation(
    fields: Mapping[str, SourceField], flat: Mapping[str, Any], num_steps: int
) -> dict[str, Any]:
    """Observation after the last step, by key, JSON-able; without images and large arrays."""
    final: dict[str, Any] = {}
    for key, field in fields.items():
        values = flat[key]
        is_small = int(np.prod(field.shape, dtype=np.int64)) <= MAX_FINAL_SIZE
        if len(values) != num_steps + 1 or field.kind == "image" or not is_small:
            continue
        value = values[num_steps] if field.kind == "text" else np.asarray(values[num_steps])
        if field.kind == "text" or np.isfinite(value).all():
            final[key] = value if isinstance(value, str) else value.tolist()
    return final


def _storage_class() -> Any:
    try:
        from minari.dataset.minari_storage import MinariStorage
    except ImportError:
        raise MissingExtra("minari", "import", "reading Minari data sets") from None
    return MinariStorage


def _references(metadata: Mapping[str, Any]) -> dict[str, float]:
    names = {"random": "ref_min_score", "expert": "ref_max_score"}
    found = {key: metadata.get(name) for key, name in names.items()}
    return {
        key: float(value)
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _environment_id(metadata: Mapping[str, Any]) -> str | None:
    try:
        return str(parse_json(metadata["env_spec"])["id"])
    except (KeyError, TypeError, ValueError):
        return None


def _first_file(folder: Path) -> Path:
    file = folder / HDF5_FILE
    return file if file.exists() else folder / "metadata.json"


IMPORTERS.register("minari")(
    ImportKind(
        run=import_minari,
        options=MinariOptions,
        help="A Minari data set (HDF5 or Arrow).",
        source_help="Its folder, or its id (downloaded where it is not local).",
        example="db1 import minari mujoco/hopper/expert-v0 --task mujoco/Hopper-v5 "
        "--out data/mujoco/Hopper-v5",
    )
)
