"""File layouts of LeRobot: versions 2.0, 2.1 and 3 of its folders, on disk or on the hub.

    meta/info.json       version, frames a second, features (dtype, shape), templates of the paths

    v2.0, v2.1           meta/episodes.jsonl, meta/tasks.jsonl
                         data/chunk-000/episode_000000.parquet, a file an episode
                         videos/chunk-000/<key>/episode_000000.mp4
    v3                   meta/episodes/*/*.parquet, meta/tasks.parquet
                         data/chunk-000/file-000.parquet, many episodes a file, one after the other
                         videos/<key>/chunk-000/file-000.mp4, likewise

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 ; `lerobot.datasets` 0.3 and 0.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from db1.errors import ConfigError, DataError, MissingExtra
from db1.files import resolved
from db1.json_shape import parse_json, parse_json_file
from db1.untrusted import below, check_relative

INFO_FILE = "meta/info.json"
_PLACEHOLDER = re.compile(r"\{(\w+)(?::(0\d+d))?\}")
_HUB_NAME = re.compile(r"(?:hf://(?:datasets/)?)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class Folder(Protocol):
    """A data set's folder, wherever it lies.

    Attributes:
        name: Absolute path, or `user/name` on the hub.
    """

    name: str

    def file(self, relative: str) -> Path:
        """Local path of a file; DataError when there is none."""

    def files(self, pattern: str) -> list[str]:
        """Relative paths that match a pattern of `PurePath.match`, in order."""


class LocalFolder:
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = resolved(path)
        self.name = str(self.path)

    def file(self, relative: str) -> Path:
        """Local path of a file.

        Raises:
            DataError: It is missing, or lies outside of the folder.
        """
        path = below(self.path, relative, self.name)
        if not path.is_file():
            raise DataError(f"{path}: no such file; the data set is incomplete")
        return path

    def files(self, pattern: str) -> list[str]:
        """Relative paths that match."""
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.glob(pattern))


class HubFolder:
    """A data set on the Hugging Face hub; a file is fetched when it is first needed, and kept.

    Args:
        name: `user/name`.
        revision: Branch, tag or commit; None: the main branch.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        self.name = name
        self._revision = revision

    def file(self, relative: str) -> Path:
        """Local path of a file, fetched if need be.

        Raises:
            DataError: The hub cannot be reached or lacks it.
        """
        hub = self._library()
        try:
            return Path(
                hub.hf_hub_download(
                    self.name,
                    check_relative(relative, self.name),
                    repo_type="dataset",
                    revision=self._revision,
                )
            )
        except Exception as error:  # the library raises those of several HTTP clients
            raise self._failed(relative, error) from None

    def files(self, pattern: str) -> list[str]:
        """Relative paths that match."""
        hub = self._library()
        try:
            listed = hub.HfApi().list_repo_files(
                self.name, repo_type="dataset", revision=self._revision
            )
        except Exception as error:  # as above
            raise self._failed(pattern, error) from None
        return sorted(name for name in listed if PurePosixPath(name).match(pattern))

    def _library(self) -> Any:
        try:
            import huggingface_hub
        except ImportError:
            raise MissingExtra("huggingface_hub", "hub", f"reading {self.name}") from None
        return huggingface_hub

    def _failed(self, what: str, error: Exception) -> DataError:
        first = next(iter(str(error).splitlines()), "")
        return DataError(
            f"{self.name}: no such folder here, and {what} cannot be had from the hub "
            f"({type(error).__name__}: {first}); check the name and the network, or download the "
            "data set and pass its folder"
        )


def open_folder(source: str) -> Folder:
    """The folder of a path or of an address `user/name`, `hf://user/name@revision`.

    Raises:
        ConfigError: Neither.
    """
    path = Path(source)
    if path.is_dir():
        return LocalFolder(path)
    match = _HUB_NAME.fullmatch(source)
    if match is None or path.exists():
        raise ConfigError(f"{source}: no folder, and no data set of the hub (user/name)")
    return HubFolder(match[1], match[2])


@dataclass(frozen=True, kw_only=True)
class Span:
    """One episode's frames inside a video: its file and the seconds before its first frame."""

    file: str
    start: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EpisodeEntry:
    """Location of one episode.

    Args:
        index: LeRobot's number of it.
        length: Frames.
        tasks: Its task texts.
        file: Parquet file, relative.
        first_row: Its first row there.
        videos: Span by feature.
        success: Where its entry has such a key.
        seed: Likewise, of the environment's reset; -1 elsewhere.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    file: str
    first_row: int
    videos: Mapping[str, Span] = field(default_factory=dict)
    success: bool | None = None
    seed: int = -1


class Layout:
    """Content of the folder `meta`.

    Args:
        folder: The data set.

    Attributes:
        version: Of the format.
        fps: Frames a second.
        features: Feature by name: `dtype`, `shape`, `names`.
        tasks: Task text by number.
        episodes: In order.

    Raises:
        DataError: No LeRobot data set, one of another version, or a broken one.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        info = _json(folder, INFO_FILE)
        try:
            self.version = str(info["codebase_version"])
            self.fps = float(info["fps"])
            self.features: dict[str, dict[str, Any]] = {
                key: {**value, "shape": tuple(int(n) for n in value["shape"])}
                for key, value in info["features"].items()
            }
            self._data_path = str(info["data_path"])
            self._video_path = str(info.get("video_path") or "")
            self._chunk = int(info.get("chunks_size", 1000))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{folder.name}/{INFO_FILE}: broken or incomplete ({error!r})"
            ) from None
        if not re.fullmatch(r"v[23]\.\d+", self.version):
            raise DataError(
                f"{folder.name}/{INFO_FILE}: version {self.version!r}, expected v2.0, v2.1 or "
                "v3.0; convert it with the lerobot package"
            )
        if not self.fps > 0 or self._chunk < 1:
            raise DataError(
                f"{folder.name}/{INFO_FILE}: {self.fps} frames a second, {self._chunk} "
                "episodes a chunk, expected above 0"
            )
        self.is_v3 = self.version.startswith("v3")
        self.video_keys = [k for k, v in self.features.items() if v["dtype"] == "video"]
        self.tasks = self._read_tasks()
        self.episodes = list(self._read_episodes())

    @property
    def meta_files(self) -> list[Path]:
        """Local paths of the files that say which episodes there are."""
        if self.is_v3:
            names = [INFO_FILE, *self.folder.files("meta/episodes/*/*.parquet")]
        else:
            names = [INFO_FILE, "meta/episodes.jsonl", "meta/tasks.jsonl"]
        return [self.folder.file(name) for name in names]

    def ranges(self, feature: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Smallest and largest values (*shape,) of a feature over all episodes; None: not known.

        Raises:
            DataError: Broken statistics.
        """
        try:
            found = [entry[feature] for entry in self._statistics() if feature in entry]
            lows = [np.asarray(entry["min"], np.float64) for entry in found]
            highs = [np.asarray(entry["max"], np.float64) for entry in found]
            return (np.min(lows, axis=0), np.max(highs, axis=0)) if found else None
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.folder.name}: broken statistics of {feature!r} ({error!r})"
            ) from None

    def _statistics(self) -> Iterator[Mapping[str, Any]]:
        names = self.folder.files("meta/*.json*")
        if "meta/stats.json" in names:
            yield _json(self.folder, "meta/stats.json")
        elif "meta/episodes_stats.jsonl" in names:
            for entry in _json_lines(self.folder, "meta/episodes_stats.jsonl"):
                yield entry["stats"]

    def _read_tasks(self) -> dict[int, str]:
        try:
            if not self.is_v3:
                lines = _json_lines(self.folder, "meta/tasks.jsonl")
                return {int(line["task_index"]): str(line["task"]) for line in lines}
            table = _table(self.folder, "meta/tasks.parquet")
            text = next(name for name in ("task", *table) if name in table and name != "task_index")
            numbers = table["task_index"]
            return {int(n): str(t) for n, t in zip(numbers, table[text], strict=True)}
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise DataError(f"{self.folder.name}: broken list of tasks ({error!r})") from None

    def _read_episodes(self) -> Iterator[EpisodeEntry]:
        rows = self._rows_v3() if self.is_v3 else _json_lines(self.folder, "meta/episodes.jsonl")
        ends: dict[str, int] = {}
        for row in rows:
            try:
                entry = self._entry(row, ends)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{self.folder.name}: broken entry of an episode ({error!r}): {str(row)[:200]}"
                ) from None
            ends[entry.file] = entry.first_row + entry.length
            yield entry

    def _entry(self, row: Mapping[str, Any], ends: Mapping[str, int]) -> EpisodeEntry:
        index, length = int(row["episode_index"]), int(row["length"])
        chunk = index // self._chunk
        names: dict[str, Any] = {"episode_chunk": chunk, "episode_index": index}
        if self.is_v3:
            names = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        file = _filled(self._data_path, names, self.folder.name)
        videos = {}
        for key in self.video_keys:
            start = 0.0
            if self.is_v3:
                prefix = f"videos/{key}"
                start = float(row[f"{prefix}/from_timestamp"])
                names |= {n: row[f"{prefix}/{n}"] for n in ("chunk_index", "file_index")}
            place = _filled(self._video_path, names | {"video_key": key}, self.folder.name)
            videos[key] = Span(file=place, start=start)
        success, seed = row.get("success"), row.get("seed")
        return EpisodeEntry(
            index=index,
            length=length,
            tasks=tuple(str(task) for task in row.get("tasks") or ()),
            file=file,
            first_row=ends.get(file, 0),
            videos=videos,
            success=success if isinstance(success, bool) else None,
            seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else -1,
        )

    def _rows_v3(self) -> Iterator[dict[str, Any]]:
        names = self.folder.files("meta/episodes/*/*.parquet")
        if not names:
            raise DataError(f"{self.folder.name}: no meta/episodes/*/*.parquet")
        wanted = ["episode_index", "length", "tasks", "success", "seed", "data/"]
        wanted += [f"videos/{key}/" for key in self.video_keys]
        for name in names:
            table = _table(self.folder, name, wanted)
            for values in zip(*table.values(), strict=True):
                yield dict(zip(table, values, strict=True))


def _filled(template: str, names: Mapping[str, Any], where: str) -> str:
    """Fills `{name}` and `{name:03d}` of a path; a foreign template can do nothing else."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise DataError(
                f"{where}: the path {template!r} asks for {match[1]!r}, expected {sorted(names)}"
            )
        found = names[match[1]]
        return f"{int(found):{match[2]}}" if match[2] else str(found)

    return _PLACEHOLDER.sub(value, template)


def _json(folder: Folder, name: str) -> Mapping[str, Any]:
    path = folder.file(name)
    try:
        content = parse_json_file(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {type(content).__name__}, expected an object")
    return content


def _json_lines(folder: Folder, name: str) -> Iterator[Mapping[str, Any]]:
    path = folder.file(name)
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                content = parse_json(line)
                if not isinstance(content, dict):
                    raise DataError(f"{path}:{number}: expected an object")
                yield content
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON lines ({error})") from None


def _table(folder: Folder, name: str, wanted: Sequence[str] = ("",)) -> dict[str, list[Any]]:
    """Columns of a small Parquet file whose names are, or begin with, one of `wanted`."""
    path = folder.file(name)
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtra("pyarrow", "import", f"reading {path}") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = [n for n in file.schema_arrow.names if n.startswith(tuple(wanted))]
            return file.read(columns=names).to_pydict()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a parquet file, or truncated ({error})") from None
