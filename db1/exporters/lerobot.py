"""An episode store -> a LeRobot data set (v3.0) that `LeRobotDataset(..., root=OUT)` opens.

    observation.<key>    numbers as they are stored, pictures as PNG in the rows, text as strings
    action               continuous in [-1, 1], or a number
    next.reward, next.done (the task itself ended), next.success (in the last step; where known)
    task_index           the episode's own words, else those of the task

`info.json` also keeps, below the key `db1` of a feature, its key, kind and shape. LeRobot does not
ask for them and `db1 import lerobot` reads them: the store comes back with equal arrays and fields.
LeRobot has no final observation and no metadata of an episode; those are left behind, seeds are
kept.

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 ; `lerobot.datasets` 0.4.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.exporters.lerobot_columns import FieldStatistics, list_column, png_pictures
from db1.failures import writing
from db1.files import resolved
from db1.importers.registry import Progress, no_progress
from db1.store.episodes import EpisodeStore
from db1.store.instructions import read_instruction
from db1.tokens.instruction import Instruction
from db1.tokens.spec import Episode, FieldSpec

VERSION = "v3.0"
INSTRUCTION = "instruction"
FILE_BYTES = 100 << 20
"""A new file of rows is begun after so many bytes; LeRobot's own limit."""
_CHUNK = 1000
_FLAGS = ("next.reward", "next.done", "next.success")
_BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_ROWS_FILE, _EPISODES_FILE = "file-{:03d}.parquet", "meta/episodes/chunk-000/file-000.parquet"


@dataclass(frozen=True, kw_only=True)
class LerobotSummary:
    """Content of an export: episodes, steps, and task texts."""

    num_episodes: int
    num_steps: int
    num_tasks: int


def export_lerobot(
    store: Path,
    out: Path,
    *,
    fps: int = 10,
    instruction: str | None = None,
    file_bytes: int = FILE_BYTES,
    progress: Progress = no_progress,
) -> LerobotSummary:
    """Writes a store as a LeRobot data set.

    Args:
        store: Folder of the episode store.
        out: Folder of the data set; must not exist.
        fps: Steps a second, which a store does not know.
        instruction: Task text of episodes that bring none; None: the store's.
        file_bytes: Size after which a new file of rows begins.
        progress: Called after each episode.

    Raises:
        DataError: A broken store, an existing folder, a field name that LeRobot cannot have, or a
            full disk; nothing is left of `out` then.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise MissingExtra("pyarrow", "import", "writing LeRobot data sets") from None
    if out.exists():
        raise DataError(f"{out} exists; export to another folder")
    if fps < 1:
        raise DataError(f"--fps {fps}, expected 1 or more")
    episodes = EpisodeStore(store)
    partial = resolved(out).with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(out):
            writer = _Writer(episodes, partial, fps, instruction, file_bytes)
            writer.write(progress)
            partial.rename(out)
    except pyarrow.ArrowException as error:
        raise DataError(f"{out}: cannot write the data set ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return LerobotSummary(
        num_episodes=episodes.num_episodes,
        num_steps=episodes.num_steps,
        num_tasks=len(writer.tasks),
    )


class _Writer:
    """One export at work; a row group holds an episode."""

    def __init__(
        self, store: EpisodeStore, folder: Path, fps: int, instruction: str | None, size: int
    ) -> None:
        self.tasks: dict[str, int] = {}
        self._store, self._folder, self._fps, self._size = store, folder, fps, size
        self._words = (
            read_instruction(store.path, store.header.task)
            if instruction is None
            else Instruction(text=instruction)
        )
        self._fields = _named(store)
        self._has_success = bool(np.isfinite(store.successes).all())
        self._statistics = {name: FieldStatistics(field) for name, field in self._fields.items()}
        self._entries: list[dict[str, Any]] = []
        self._schema = self._rows_schema()
        self._writer: Any = None
        self._file = -1

    def write(self, progress: Progress) -> None:
        """Writes everything."""
        (self._folder / "meta").mkdir(parents=True)
        try:
            for number in range(self._store.num_episodes):
                self._append(number, self._store.read(number))
                progress(self._store.header.task, number + 1, self._store.num_episodes)
        finally:
            if self._writer is not None:
                self._writer.close()
        self._write_meta()

    def _append(self, number: int, episode: Episode) -> None:
        import pyarrow

        task = self.tasks.setdefault(self._text(episode), len(self.tasks))
        start = sum(entry["length"] for entry in self._entries[-1:])
        start += self._entries[-1]["dataset_from_index"] if self._entries else 0
        chunk, file = self._open()
        columns = self._columns(number, episode, start, task)
        self._writer.write_table(
            pyarrow.Table.from_arrays(
                [columns[name] for name in self._schema.names], schema=self._schema
            )
        )
        self._entries.append(
            {
                "episode_index": number,
                "tasks": [self._text(episode)],
                "length": len(episode),
                "data/chunk_index": chunk,
                "data/file_index": file,
                "dataset_from_index": start,
                "dataset_to_index": start + len(episode),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "success": episode.success,
                "seed": episode.seed,
            }
        )

    def _open(self) -> tuple[int, int]:
        """Chunk and number of the file that takes the next episode."""
        import pyarrow.parquet as parquet

        if self._writer is not None and self._path().stat().st_size >= self._size:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._file += 1
            self._path().parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(self._path(), self._schema)
        return divmod(self._file, _CHUNK)

    def _path(self) -> Path:
        chunk, file = divmod(self._file, _CHUNK)
        return self._folder / _DATA.format(chunk_index=chunk, file_index=file)

    def _text(self, episode: Episode) -> str:
        """The episode's own words, else the task's."""
        own = episode.metadata.get(INSTRUCTION)
        if isinstance(own, str) and own:
            return own
        if self._words.field is not None:
            said = [str(text) for text in episode.observations[self._words.field][:1]]
            return said[0] or self._words.text
        return self._words.text

    def _columns(self, number: int, episode: Episode, start: int, task: int) -> dict[str, Any]:
        import pyarrow

        count = len(episode)
        arrays = {
            name: episode.actions if name == "action" else episode.observations[key]
            for name, key in _keys(self._store)
        }
        is_last = np.arange(count) == count - 1
        arrays["next.reward"] = episode.rewards
        arrays["next.done"] = is_last & episode.terminated
        if self._has_success:
            arrays["next.success"] = is_last & bool(episode.success)
        for name, values in arrays.items():
            if name in self._statistics:
                self._statistics[name].add(values)
        arrays["timestamp"] = (np.arange(count) / self._fps).astype(np.float32)
        arrays["frame_index"] = np.arange(count)
        arrays["episode_index"] = np.full(count, number)
        arrays["index"] = np.arange(start, start + count)
        arrays["task_index"] = np.full(count, task)
        columns = {}
        for name, values in arrays.items():
            kind = self._schema.field(name).type
            field = self._fields.get(name)
            if field is not None and field.kind == "image":
                columns[name] = pyarrow.array(png_pictures(values), type=kind)
            else:
                columns[name] = list_column(values, kind)
        return columns

    def _rows_schema(self) -> Any:
        import pyarrow

        fields = []
        for name, field in self._features().items():
            if field["dtype"] == "image":
                kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
            elif field["dtype"] == "string":
                kind = pyarrow.string()
            else:
                kind = pyarrow.from_numpy_dtype(np.dtype(field["dtype"]))
                for length in reversed(field["shape"] if field["shape"] != [1] else ()):
                    kind = pyarrow.list_(kind, length) if len(field["shape"]) == 1 else (
                        pyarrow.list_(kind)
                    )  # fmt: skip
            fields.append(pyarrow.field(name, kind))
        return pyarrow.schema(fields)

    def _features(self) -> dict[str, dict[str, Any]]:
        features: dict[str, dict[str, Any]] = {}
        keys = dict(_keys(self._store))
        for name, field in self._fields.items():
            dtype = {"continuous": "float32", "discrete": "int64", "text": "string"}
            features[name] = {
                "dtype": dtype.get(field.kind, "image"),
                "shape": list(field.shape) or [1],
                "names": ["height", "width", "channels"] if field.kind == "image" else None,
                "db1": {
                    "key": keys[name], "kind": field.kind, "shape": list(field.shape),
                    "num_values": field.num_values,
                },
            }  # fmt: skip
        flags = _FLAGS if self._has_success else _FLAGS[:2]
        for name in flags:
            dtype = "float32" if name == "next.reward" else "bool"
            features[name] = {"dtype": dtype, "shape": [1], "names": None}
        for name, dtype in _BOOKKEEPING.items():
            features[name] = {"dtype": dtype, "shape": [1], "names": None}
        return features

    def _write_meta(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        texts = pyarrow.table(
            {
                "task_index": pyarrow.array(list(self.tasks.values()), pyarrow.int64()),
                "__index_level_0__": pyarrow.array(list(self.tasks), pyarrow.string()),
            }
        )
        texts = texts.replace_schema_metadata({"pandas": json.dumps(_PANDAS_INDEX)})
        parquet.write_table(texts, self._folder / "meta/tasks.parquet")
        (self._folder / _EPISODES_FILE).parent.mkdir(parents=True)
        table = pyarrow.Table.from_pylist(self._entries, schema=_entries_schema())
        parquet.write_table(table, self._folder / _EPISODES_FILE)
        self._write_json("info.json", self._info())
        statistics = {name: found.to_dict() for name, found in self._statistics.items()}
        self._write_json("stats.json", {k: v for k, v in statistics.items() if v is not None})

    def _info(self) -> dict[str, Any]:
        count = self._store.num_episodes
        return {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": count,
            "total_frames": self._store.num_steps,
            "total_tasks": len(self.tasks),
            "chunks_size": _CHUNK,
            "data_files_size_in_mb": FILE_BYTES >> 20,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{count}"},
            "data_path": _DATA,
            "video_path": None,
            "features": self._features(),
            "db1": {"task": self._store.header.task},
        }

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=4, allow_nan=False)
        (self._folder / "meta" / name).write_text(text + "\n", encoding="utf-8")


_PANDAS_INDEX = {
    "index_columns": ["__index_level_0__"],
    "column_indexes": [],
    "columns": [
        {
            "name": "task_index", "field_name": "task_index", "pandas_type": "int64",
            "numpy_type": "int64", "metadata": None,
        },
        {
            "name": None, "field_name": "__index_level_0__", "pandas_type": "unicode",
            "numpy_type": "object", "metadata": None,
        },
    ],
    "pandas_version": "2.0.0",
}  # fmt: skip
"""Tells pandas, through which LeRobot reads the task texts, that they are the index."""


def _entries_schema() -> Any:
    import pyarrow

    whole = (
        "episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index",
        "dataset_to_index", "meta/episodes/chunk_index", "meta/episodes/file_index", "seed",
    )  # fmt: skip
    return pyarrow.schema(
        [
            *(pyarrow.field(name, pyarrow.int64()) for name in whole),
            pyarrow.field("tasks", pyarrow.list_(pyarrow.string())),
            pyarrow.field("success", pyarrow.bool_()),
        ]
    )


def _keys(store: EpisodeStore) -> list[tuple[str, str]]:
    """(name of the feature, key of the observation); the action last. Names have no slashes."""
    return [
        *((f"observation.{key.replace('/', '.')}", key) for key in store.spec.observation),
        ("action", "action"),
    ]


def _named(store: EpisodeStore) -> dict[str, FieldSpec]:
    """Field by name of the feature."""
    fields: dict[str, FieldSpec] = {}
    for name, key in _keys(store):
        if name in fields:
            raise DataError(
                f"{store.path}: two observations become {name!r} (LeRobot has no names with a "
                f"slash), one of them {key!r}; import or collect the store with other names"
            )
        fields[name] = store.spec.action if name == "action" else store.spec.observation[key]
    return fields
