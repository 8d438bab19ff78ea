"""Very large data: one store of 100 million steps, and a mixture of 1,000 small stores.

The big store has real records and sparse columns (holes that read as zeros), so it needs no room on
the disk. Each measurement runs in a fresh process, whose memory held nothing before.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from db1.benchmarks.corpora import CONTROL, TaskSize, write_task
from db1.benchmarks.resident import Opening, open_and_draw
from db1.benchmarks.timing import OURS, Comparison, Timing
from db1.store.episode_layout import StoreFiles, StoreHeader
from db1.store.header import write_header
from db1.store.records import RECORD, record_checksums

Progress = Callable[[str, int, int], None]

EPISODE_STEPS = 500


def bench_scale(
    quick: bool = False, *, length: int = 1_024, progress: Progress | None = None
) -> list[Comparison]:
    """Measures opening; the notes hold memory and the time of the first samples.

    Args:
        quick: A hundredth of the stores; seconds.
        length: Tokens of a sample.
        progress: Called with (work, finished rounds, all rounds).
    """
    num_steps, num_stores, rounds = (1_000_000, 10, 1) if quick else (100_000_000, 1_000, 3)
    with tempfile.TemporaryDirectory() as folder:
        big, small = Path(folder) / "big", Path(folder) / "small"
        write_sparse_store(big, num_steps)
        folders = write_many_stores(small, num_stores)
        return [
            _opening(f"opening a store of {num_steps:,} steps", [big], length, rounds, progress),
            _opening(f"opening {num_stores:,} stores", folders, length, rounds, progress),
        ]


def write_sparse_store(folder: Path, num_steps: int) -> None:
    """Writes a store of the control task whose rows are all zeros, in files of holes."""
    folder.mkdir(parents=True)
    header = StoreHeader(task="bench/big", spec=CONTROL)
    write_header(folder, header)
    files = StoreFiles(folder, header)
    num_episodes = num_steps // EPISODE_STEPS
    for column in files.columns.values():
        for file, size in zip(
            column.files, column.sizes(num_episodes * EPISODE_STEPS), strict=True
        ):
            with open(file.path, "wb") as sparse:
                sparse.truncate(size)
    records = np.zeros(num_episodes, dtype=RECORD)
    records["start"] = np.arange(num_episodes, dtype=np.uint64) * EPISODE_STEPS
    records["length"] = EPISODE_STEPS
    records["record_crc"] = record_checksums(records)
    records.tofile(files.records.file.path)


def write_many_stores(folder: Path, num_stores: int) -> list[Path]:
    """Writes equal stores of the control task, 20 episodes of 50 steps each."""
    write_task(folder, CONTROL, TaskSize(num_episodes=20, num_steps=50), {"0": "raw"})
    folders = [folder / str(i) for i in range(num_stores)]
    for copy in folders[1:]:
        shutil.copytree(folders[0], copy)
    return folders


def _opening(
    work: str, folders: Sequence[Path], length: int, rounds: int, progress: Progress | None
) -> Comparison:
    openings: list[Opening] = []
    for done in range(rounds):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            openings.append(fresh.submit(open_and_draw, folders, length).result())
        if progress is not None:
            progress(work, done + 1, rounds)
    seconds = tuple(opening.open_seconds / len(folders) for opening in openings)
    last = openings[-1]
    notes = {
        "seconds to open all": last.open_seconds,
        "seconds for the first sample of each": last.first_seconds,
        "megabytes of memory, both": "unknown" if last.megabytes is None else last.megabytes,
        "steps": last.num_steps,
    }
    timings = (Timing(name=OURS, seconds_per_unit=seconds),)
    return Comparison(work=work, unit="store", timings=timings, notes=notes)
