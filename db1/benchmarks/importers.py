"""Speed and memory of every importer of episodes, on sources that are written for it.

A source is written by one process and read by another one, which has imported a few episodes of the
same kind before, so that packages are loaded and nothing of the writer is in its memory:

    steps a second       of the processor's time, all threads together
    resident before      of the process, before the import begins
    resident at most     while it lasts; its growth is the cost of the import

Sources of numbers show 17 and act with 6 (as HalfCheetah), those with pictures have one of 96x96
besides.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from db1.benchmarks.foreign.control import (
    write_d4rl,
    write_db1_cache,
    write_jat,
    write_minari,
    write_minari_arrow,
    write_trajectories,
)
from db1.benchmarks.foreign.episodes import Raw, Write, cut, numbers
from db1.benchmarks.foreign.lerobot import write_lerobot_v3, write_lerobot_v21
from db1.benchmarks.foreign.records import write_rlds, write_tdmpc2
from db1.benchmarks.frames import camera_frames
from db1.benchmarks.memory import reset_peak, status_megabytes
from db1.errors import Db1Error

OBSERVED, ACTED = 17, 6
_FRAMES = 500
"""Different pictures of a source."""
_EPISODE = 1_000
_FEW = 5
"""Episodes of the import that comes before."""
_MEGABYTE = 1_000_000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """One kind of source.

    Args:
        importer: Its name in `db1 import`.
        write: Writes the episodes.
        packages: Modules that writing and reading need.
        options: Of the importer.
        num_steps: As many as make about 200 MB, or fewer where writing takes long.
        episode_length: Steps of an episode.
    """

    importer: str
    write: Write
    packages: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    num_steps: int = 2_000_000
    episode_length: int = _EPISODE


@dataclass(frozen=True, kw_only=True)
class ImportFigures:
    """Figures of one import.

    Args:
        kind: See `KINDS`.
        source_mb: Size of the source's files, 10^6 bytes.
        steps: Steps in the store that came of it.
        steps_per_second: By processor time.
        resident_before_mb, resident_peak_mb: Memory, 2^20 bytes; None where unknown.
    """

    kind: str
    source_mb: float
    steps: int
    steps_per_second: float
    resident_before_mb: float | None
    resident_peak_mb: float | None


def _with_camera(write: Callable[[Path, Sequence[Raw], np.ndarray], str]) -> Write:
    """Gives a writer the pictures that it needs."""
    return partial(_write_with_camera, write)


def _write_with_camera(
    write: Callable[[Path, Sequence[Raw], np.ndarray], str], folder: Path, episodes: Sequence[Raw]
) -> str:
    return write(folder, episodes, camera_frames(min(_FRAMES, sum(map(len, episodes)))))


_MAP = {"map": ["observation.state=obs action=act reward=rew"]}
_LEROBOT = {"importer": "lerobot", "num_steps": 20_000, "episode_length": 200}
_MINARI = {"importer": "minari", "packages": ("minari", "h5py")}
_TRAJECTORIES = {"importer": "trajectories", "options": _MAP}

KINDS: Mapping[str, SourceKind] = {
    "lerobot-v2.1-png": SourceKind(
        write=_with_camera(write_lerobot_v21), packages=("pyarrow",), **_LEROBOT
    ),
    "lerobot-v3-mp4": SourceKind(
        write=_with_camera(write_lerobot_v3), packages=("pyarrow", "av"), **_LEROBOT
    ),
    "trajectories-hdf5": SourceKind(
        write=partial(write_trajectories, suffix=".hdf5"), packages=("h5py",), **_TRAJECTORIES
    ),
    "trajectories-npz": SourceKind(
        write=partial(write_trajectories, suffix=".npz"), **_TRAJECTORIES
    ),
    "trajectories-parquet": SourceKind(
        write=partial(write_trajectories, suffix=".parquet"),
        packages=("pyarrow",),
        **_TRAJECTORIES,
    ),
    "rlds": SourceKind(importer="rlds", write=write_rlds, packages=("google_crc32c",)),
    "tdmpc2": SourceKind(
        importer="tdmpc2", write=write_tdmpc2, num_steps=1_800_000, episode_length=500
    ),
    "jat": SourceKind(
        importer="jat", write=partial(write_jat, group=None), packages=("datasets", "pyarrow")
    ),
    "minari-hdf5": SourceKind(write=write_minari, **_MINARI),
    "minari-arrow": SourceKind(write=write_minari_arrow, **_MINARI),
    "d4rl": SourceKind(importer="d4rl", write=write_d4rl, packages=("h5py",), num_steps=1_200_000),
    "db1-cache": SourceKind(importer="db1-cache", write=write_db1_cache),
}
"""By name; d4rl also has the observations that follow, hence fewer steps."""


def bench_importers(
    kinds: Sequence[str], num_steps: int | None = None, progress: Progress | None = None
) -> list[ImportFigures]:
    """Measures some kinds, one after the other; temporary files are removed after each.

    Args:
        kinds: Names of `KINDS`.
        num_steps: Steps of every source; None: the kind's own.
        progress: Called with (kind, done, all).

    Raises:
        Db1Error: A store has other steps than its source.
    """
    rows = []
    for done, kind in enumerate(kinds, start=1):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(kind, num_steps or KINDS[kind].num_steps, Path(folder)))
        if progress is not None:
            progress(kind, done, len(kinds))
    return rows


def measure(kind: str, num_steps: int, folder: Path) -> ImportFigures:
    """Writes a source into a folder, and imports it in another process.

    Raises:
        Db1Error: The store has other steps than the source.
    """
    few, source = _apart(_write, kind, num_steps, folder)
    figures = _apart(_import, kind, few, source, folder)
    if figures.steps != num_steps:
        raise Db1Error(f"{kind}: {figures.steps} steps stored, expected {num_steps}")
    return figures


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(work, *arguments).result()


def _write(kind: str, num_steps: int, folder: Path) -> tuple[str, str]:
    """Runs in a process: writes a source of a few episodes and the one that is measured."""
    entry = KINDS[kind]
    if "datasets" in entry.packages:
        import datasets

        datasets.disable_progress_bars()
    length = min(entry.episode_length, max(1, num_steps // 4))
    sources = []
    for name, lengths in (("few", [length] * _FEW), ("all", cut(num_steps, length))):
        episodes = [
            numbers(steps, seed, observed=OBSERVED, acted=ACTED)
            for seed, steps in enumerate(lengths)
        ]
        sources.append(entry.write(folder / name, episodes))
    return sources[0], sources[1]


def _import(kind: str, few: str, source: str, folder: Path) -> ImportFigures:
    """Runs in a process: imports the few episodes, then those that count."""
    from db1.importers import IMPORTERS, ImportContext
    from db1.store.episodes import EpisodeStore

    entry = KINDS[kind]
    importer = IMPORTERS[entry.importer]
    options, context = importer.options(task="bench/line", **entry.options), ImportContext()
    importer.run(few, folder / "before", options, context)
    _use_one_thread()
    reset_peak()
    before, cpu = status_megabytes("VmRSS"), time.process_time()
    importer.run(source, folder / "store", options, context)
    cpu = time.process_time() - cpu
    peak = _peak_megabytes()
    steps = EpisodeStore(folder / "store").num_steps
    shutil.rmtree(folder / "store")
    return ImportFigures(
        kind=kind,
        source_mb=_size(Path(source)) / _MEGABYTE,
        steps=steps,
        steps_per_second=steps / cpu,
        resident_before_mb=before,
        resident_peak_mb=peak,
    )


def _peak_megabytes() -> float:
    """Largest resident memory of this process, from `reset_peak` on where the system can that."""
    peak = status_megabytes("VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20)


def _use_one_thread() -> None:
    """Keeps torch and pyarrow at one thread where they are loaded."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].set_cpu_count(1)
        sys.modules["pyarrow"].set_io_thread_count(1)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
