"""Episodes with pictures as LeRobot data sets: v2.1 with PNG in the rows, v3 with an MP4 beside."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from db1.benchmarks.foreign.episodes import Raw

FPS = 10
CAMERA = "observation.images.top"
TEXT = "push the block"
_FLAGS = {"next.reward": "float32", "next.done": "bool"}
_BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
_V21_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_FILE = {"chunk_index": 0, "file_index": 0}


def write_lerobot_v21(folder: Path, episodes: Sequence[Raw], frames: np.ndarray) -> str:
    """Writes format v2.1: a Parquet file an episode, pictures as PNG in its rows.

    Args:
        folder: Of the data set.
        episodes: Their observations are numbers.
        frames: uint8 (N, height, width, 3), shown over and over again.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    pictures = [_png(frame) for frame in frames]
    start = 0
    for number, e in enumerate(episodes):
        shown = [pictures[step % len(pictures)] for step in range(start, start + len(e))]
        camera = [{"bytes": content, "path": None} for content in shown]
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        columns = {**_columns(e, number, start), CAMERA: pyarrow.array(camera, kind)}
        path = folder / _V21_DATA.format(episode_chunk=number // 1_000, episode_index=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table(columns), path)
        start += len(e)
    info = _info("v2.1", episodes, {"dtype": "image", "shape": list(frames.shape[1:])})
    info |= {"data_path": _V21_DATA, "video_path": None}
    entries = [
        {"episode_index": number, "tasks": [TEXT], "length": len(e)}
        for number, e in enumerate(episodes)
    ]
    _write_meta(folder, "info.json", json.dumps(info))
    _write_meta(folder, "episodes.jsonl", "\n".join(map(json.dumps, entries)))
    _write_meta(folder, "tasks.jsonl", json.dumps({"task_index": 0, "task": TEXT}))
    return str(folder)


def write_lerobot_v3(folder: Path, episodes: Sequence[Raw], frames: np.ndarray) -> str:
    """Writes format v3: one Parquet file of all rows, one MP4 (H.264, every other frame a key).

    Args:
        folder: Of the data set.
        episodes: Their observations are numbers.
        frames: uint8 (N, height, width, 3) with even sides, shown over and over again.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    starts = np.cumsum([0, *(len(e) for e in episodes)]).tolist()
    path = folder / _V3_DATA.format(**_FILE)
    path.parent.mkdir(parents=True)
    tables = (pyarrow.table(_columns(e, n, starts[n])) for n, e in enumerate(episodes))
    first = next(tables)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
    _write_film(folder / _V3_VIDEO.format(video_key=CAMERA, **_FILE), frames, starts[-1])
    info = _info("v3.0", episodes, {"dtype": "video", "shape": list(frames.shape[1:])})
    info |= {"data_path": _V3_DATA, "video_path": _V3_VIDEO}
    _write_meta(folder, "info.json", json.dumps(info))
    texts = pyarrow.table({"task_index": [0], "__index_level_0__": [TEXT]})
    parquet.write_table(texts, folder / "meta/tasks.parquet")
    entries = [_entry(number, starts) for number in range(len(episodes))]
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    parquet.write_table(
        pyarrow.Table.from_pylist(entries), folder / "meta/episodes/chunk-000/file-000.parquet"
    )
    return str(folder)


def _entry(number: int, starts: Sequence[int]) -> dict[str, Any]:
    """Place of an episode in the files of v3."""
    first, last = starts[number], starts[number + 1]
    entry: dict[str, Any] = {"episode_index": number, "tasks": [TEXT], "length": last - first}
    entry |= {f"data/{name}": value for name, value in _FILE.items()}
    entry |= {f"videos/{CAMERA}/{name}": value for name, value in _FILE.items()}
    entry |= {f"videos/{CAMERA}/from_timestamp": first / FPS}
    return entry | {f"videos/{CAMERA}/to_timestamp": last / FPS}


def _columns(e: Raw, number: int, start: int) -> dict[str, Any]:
    """Columns of numbers of one episode."""
    count = len(e)
    return {
        "observation.state": _rows(e.observations[:count]),
        "action": _rows(e.actions),
        "next.reward": e.rewards,
        "next.done": (np.arange(count) == count - 1) & e.terminated,
        "timestamp": (np.arange(count) / FPS).astype(np.float32),
        "frame_index": np.arange(count),
        "episode_index": np.full(count, number),
        "index": np.arange(start, start + count),
        "task_index": np.zeros(count, np.int64),
    }


def _rows(values: np.ndarray) -> Any:
    """(T, size) -> lists of a fixed length."""
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(values.reshape(-1)), values.shape[1]
    )


def _info(version: str, episodes: Sequence[Raw], camera: Mapping[str, Any]) -> dict[str, Any]:
    """Content of info.json without its paths."""
    sizes = {"observation.state": episodes[0].observations, "action": episodes[0].actions}
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": list(values.shape[1:]), "names": None}
        for name, values in sizes.items()
    }
    features[CAMERA] = {**camera, "names": ["height", "width", "channels"]}
    for name, dtype in {**_FLAGS, **_BOOKKEEPING}.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return {
        "codebase_version": version,
        "robot_type": None,
        "total_episodes": len(episodes),
        "total_frames": sum(map(len, episodes)),
        "total_tasks": 1,
        "chunks_size": 1_000,
        "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"},
        "features": features,
    }


def _write_meta(folder: Path, name: str, text: str) -> None:
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / name).write_text(text + "\n", encoding="utf-8")


def _png(frame: np.ndarray) -> bytes:
    """The bytes of a picture, uint8 (height, width, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _write_film(path: Path, frames: np.ndarray, count: int) -> None:
    """Encodes `count` pictures, uint8 (N, height, width, 3) again and again."""
    import av

    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "30", "g": "2"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(frames[number % len(frames)], format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
