"""The data loader: single samples, whole batches from reader processes, and very large data.

    samples     one window of 1,024 tokens at a time in one process, by kind of data
    batches     micro-batches out of the loader, ready for the model (batches.py)
    scale       opening a store of 100 million steps, and a mixture of 1,000 stores (scale.py)

The reference is trajectory_files.py; both give the same ids, which is checked before the clock
runs. Single samples are timed by processor time, so that other work on the machine does not count.
All files stay in the page cache: the disk's speed plays no part.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from db1.benchmarks.batches import REFERENCE, BatchSizes, bench_batches
from db1.benchmarks.cases import LENGTH, Case, control_case, image_case, text_case
from db1.benchmarks.corpora import TaskSize
from db1.benchmarks.scale import bench_scale
from db1.benchmarks.timing import Comparison, Contender, compare
from db1.data.mixture import generator_of
from db1.data.sources import Source

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class DataSizes:
    """Sizes of the measurement.

    Args:
        control: Episodes of numbers.
        images: Episodes of frames.
        num_documents: Documents of text.
        num_samples: Samples of db1 in a round; the reference reads a tenth.
        rounds: Turns of each contender.
        batches: Of whole batches.
    """

    control: TaskSize
    images: TaskSize
    num_documents: int
    num_samples: int
    rounds: int
    batches: BatchSizes


FULL = DataSizes(
    control=TaskSize(num_episodes=100, num_steps=500),
    images=TaskSize(num_episodes=10, num_steps=1_000),
    num_documents=2_000,
    num_samples=200,
    rounds=7,
    batches=BatchSizes(num_batches=30, rounds=3, workers=(2, 1, 0), step_seconds=0.1),
)
QUICK = DataSizes(
    control=TaskSize(num_episodes=4, num_steps=120),
    images=TaskSize(num_episodes=2, num_steps=80),
    num_documents=30,
    num_samples=10,
    rounds=2,
    batches=BatchSizes(num_batches=2, rounds=1, workers=(1, 0), step_seconds=0.01),
)


def bench_data(quick: bool = False, *, progress: Progress | None = None) -> list[Comparison]:
    """Measures the loader side by side with plain files.

    Args:
        quick: Small sizes; seconds.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        Db1Error: The reference does not give the same ids or patches.
    """
    sizes = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        control = control_case(folder / "control", sizes.control)
        images = image_case(folder / "images", sizes.images)
        text = text_case(folder / "text", sizes.num_documents)
        comparisons = [bench_samples(case, sizes, progress) for case in (control, images, text)]
        for case in (control, images):
            comparisons += bench_batches(case, sizes.batches, progress)
    return comparisons + bench_scale(quick, progress=progress)


def bench_samples(case: Case, sizes: DataSizes, progress: Progress | None = None) -> Comparison:
    """Measures one sample after the other in this process, by processor time.

    Args:
        case: The data.
        sizes: How much.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        Db1Error: The reference does not give the same ids or patches.
    """
    case.check()

    def ours(source: Source) -> Callable[[], None]:
        def read() -> None:
            for n in range(sizes.num_samples):
                source.sample(n, generator_of(0, n))

        return read

    def reference() -> None:
        for i in range(few):
            case.reference[i % len(case.reference)]

    few = sizes.num_samples // 10
    contenders = [
        Contender(name=name, run=ours(source), amount=sizes.num_samples)
        for name, source in case.sources.items()
    ]
    contenders.append(Contender(name=REFERENCE, run=reference, amount=few))
    for contender in contenders:
        contender.run()
    return compare(
        f"samples of {LENGTH:,} tokens, one core: {case.name}",
        "sample",
        contenders,
        rounds=sizes.rounds,
        clock=time.process_time,
        progress=progress,
    )
