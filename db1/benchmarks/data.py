"""The data loader: single samples, whole batches from reader processes, and very large data.

    samples     one window of 1,024 tokens at a time in one process, by kind of data
    batches     micro-batches out of the loader, ready for the model
    scale       opening a store of 100 million steps, and a mixture of 1,000 stores (scale.py)

The reference is trajectory_files.py; both give the same ids, which is checked before the clock runs.
Single samples are timed by processor time, so that other work on the machine does not count. All
files stay in the page cache: the disk's speed plays no part.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from db1.benchmarks.corpora import CONTROL, IMAGES, TaskSize, write_documents, write_task
from db1.benchmarks.scale import bench_scale
from db1.benchmarks.timing import OURS, Comparison, Contender, Timing, compare
from db1.benchmarks.trajectory_files import DocumentFiles, TrajectoryFiles
from db1.data.collate import collate
from db1.data.loader import load_batches
from db1.data.mixture import FixedSamples, generator_of
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.errors import Db1Error
from db1.model.vision import standardize, to_patches
from db1.sequence.episode import SequenceConfig
from db1.sequence.sample import Batch, Sample
from db1.store.index import sample_index
from db1.tokens.spec import StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

Progress = Callable[[str, int, int], None]

LENGTH = 1_024
BATCH_SIZE = 8
REFERENCE = ".npy files"
_CHECKED = 4
_VOCABULARY = Vocabulary(VocabularyConfig())


@dataclass(frozen=True, kw_only=True)
class DataBenchmark:
    """Sizes of the benchmark.

    Args:
        control: Episodes of numbers.
        images: Episodes of frames.
        num_documents: Documents of text.
        samples: Samples of each contender in a round.
        batches: Batches of each contender in a round.
        rounds: Turns of each contender.
        workers: Reader processes of the batches that are measured.
        step_seconds: How long the model works on a batch where waiting for the next is measured.
    """

    control: TaskSize = TaskSize(num_episodes=100, num_steps=500)
    images: TaskSize = TaskSize(num_episodes=10, num_steps=1_000)
    num_documents: int = 2_000
    samples: int = 100
    batches: int = 30
    rounds: int = 5
    workers: tuple[int, ...] = (0, 1, 2)
    step_seconds: float = 0.1


QUICK = DataBenchmark(
    control=TaskSize(num_episodes=4, num_steps=120),
    images=TaskSize(num_episodes=2, num_steps=80),
    num_documents=30,
    samples=10,
    batches=2,
    rounds=2,
    workers=(0, 1),
    step_seconds=0.01,
)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One kind of data, as db1 reads it and as the reference does.

    Args:
        name: What it is.
        sources: db1's sources by contender; the first is named `db1`.
        reference: The same data in plain files.
        same: db1's sample that holds what sample i of the reference does.
    """

    name: str
    sources: dict[str, Source]
    reference: TrajectoryFiles | DocumentFiles
    same: Callable[[int], Sample]


def bench_data(quick: bool = False, *, progress: Progress | None = None) -> list[Comparison]:
    """Measures the loader side by side with plain files.

    Args:
        quick: Small sizes; seconds.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        Db1Error: The reference does not give the same ids or patches.
    """
    sizes = QUICK if quick else DataBenchmark()
    with tempfile.TemporaryDirectory() as folder:
        control = _task_case("39 numbers, 4 actions", Path(folder) / "control", CONTROL, sizes)
        images = _task_case("80 x 80 frames", Path(folder) / "images", IMAGES, sizes)
        text = _text_case(Path(folder) / "text", sizes)
        comparisons = [_samples(case, sizes, progress) for case in (control, images, text)]
        for case in (control, images):
            comparisons += [_batches(case, sizes, progress), _waits(case, sizes, progress)]
    return comparisons + bench_scale(quick, progress=progress)


def _task_case(name: str, folder: Path, spec: StepSpec, sizes: DataBenchmark) -> _Case:
    is_image = spec is IMAGES
    formats = {"raw": "raw", "zlib": "zlib", "png": "png"} if is_image else {"raw": "raw"}
    write_task(folder, spec, sizes.images if is_image else sizes.control, formats)

    def source(store: str = "raw", prompts: float = 0.0, noise: float = 0.0) -> EpisodeSource:
        config = SequenceConfig(length=LENGTH, prompt_probability=prompts, history_noise=noise)
        return EpisodeSource(folder / store, _VOCABULARY, None, config, heldout_share=0.0)

    ours = source()
    sources: dict[str, Source] = {
        OURS: ours,
        "db1, a quarter with prompts": source(prompts=0.25),
        "db1, history noise": source(noise=0.1),
    }
    sources |= {f"db1, {name} frames": source(name) for name in formats if name != "raw"}
    windows = [ours.windows.draw(generator_of(0, n)) for n in range(sizes.samples)]
    return _Case(
        name=name,
        sources=sources,
        reference=TrajectoryFiles(folder / "npy", windows, _VOCABULARY, LENGTH),
        same=lambda i: ours.sample(i, generator_of(0, i)),
    )


def _text_case(folder: Path, sizes: DataBenchmark) -> _Case:
    tokenizer, document_sizes = write_documents(folder, sizes.num_documents)
    config = SequenceConfig(length=LENGTH)
    ours = TextSource(folder / "book", "book", _VOCABULARY, tokenizer, config, seed=0)
    reference = DocumentFiles(folder, sample_index(document_sizes, LENGTH), LENGTH)
    return _Case(name="text", sources={OURS: ours}, reference=reference, same=ours.stretch)


def _samples(case: _Case, sizes: DataBenchmark, progress: Progress | None) -> Comparison:
    _check_same(case)

    def ours(source: Source) -> Callable[[], None]:
        def read() -> None:
            for n in range(sizes.samples):
                source.sample(n, generator_of(0, n))

        return read

    def reference() -> None:
        for i in range(few):
            case.reference[i % len(case.reference)]

    few = max(1, sizes.samples // 10)
    contenders = [
        Contender(name=name, run=ours(source), amount=sizes.samples)
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


def _batches(case: _Case, sizes: DataBenchmark, progress: Progress | None) -> Comparison:
    """Seconds a batch when nothing else is done; `db1` has the most reader processes."""
    sample, batch = case.reference[0], next(_ours(case, 0, 1))
    return _timed_batches(
        f"batches of {BATCH_SIZE} samples: {case.name}",
        case,
        sizes,
        0.0,
        {
            "bytes of a batch, db1": _num_bytes(batch),
            f"bytes of a batch, {REFERENCE}": BATCH_SIZE * sum(t.nbytes for t in sample.values()),
        },
        progress,
    )


def _waits(case: _Case, sizes: DataBenchmark, progress: Progress | None) -> Comparison:
    """Seconds a batch that a model waits, which works on each for a while (it sleeps)."""
    milliseconds = round(sizes.step_seconds * 1e3)
    work = f"waiting for batches of {BATCH_SIZE} samples between steps of {milliseconds} ms"
    return _timed_batches(f"{work}: {case.name}", case, sizes, sizes.step_seconds, {}, progress)


def _timed_batches(
    work: str,
    case: _Case,
    sizes: DataBenchmark,
    step_seconds: float,
    notes: Mapping[str, int],
    progress: Progress | None,
) -> Comparison:
    """Times batches after those that readers have ready when they start."""
    most = max(sizes.workers)
    readers = {OURS if w == most else f"db1, {_named(w)}": (_ours, w) for w in sizes.workers[::-1]}
    readers |= {f"{REFERENCE}, {_named(w)}": (_theirs, w) for w in (most, 0)}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for done in range(sizes.rounds):
        for name, (read, workers) in readers.items():
            ahead = 1 + 2 * workers
            batches = read(case, workers, sizes.batches + 2 * ahead)
            for _ in range(ahead):
                next(batches)
            waited = [_wait(batches, step_seconds) for _ in range(sizes.batches)]
            seconds[name].append(sum(waited) / sizes.batches)
            del batches  # ends its reader processes
        if progress is not None:
            progress(work, done + 1, sizes.rounds)
    timings = tuple(Timing(name=name, seconds_per_unit=tuple(s)) for name, s in seconds.items())
    notes = {"db1": _named(most)} | dict(notes)
    return Comparison(work=work, unit="batch", timings=timings, notes=notes)


def _named(workers: int) -> str:
    return f"{workers} reader process{'es' * (workers > 1)}" if workers else "no reader process"


def _wait(batches: Iterator[object], step_seconds: float) -> float:
    time.sleep(step_seconds)
    start = time.perf_counter()
    next(batches)
    return time.perf_counter() - start


def _ours(case: _Case, workers: int, num_batches: int) -> Iterator[Batch]:
    dataset = FixedSamples(case.sources[OURS], num_batches * BATCH_SIZE, seed=0)
    return load_batches(dataset, _numbers(num_batches), num_workers=workers)


def _theirs(case: _Case, workers: int, num_batches: int) -> Iterator[dict[str, Tensor]]:
    numbers = [[n % len(case.reference) for n in batch] for batch in _numbers(num_batches)]
    return iter(DataLoader(case.reference, batch_sampler=numbers, num_workers=workers))


def _numbers(num_batches: int) -> list[list[int]]:
    return np.arange(num_batches * BATCH_SIZE).reshape(num_batches, BATCH_SIZE).tolist()


def _num_bytes(batch: Batch) -> int:
    tensors = [batch.ids, batch.local_positions, batch.labels, batch.loss_mask]
    tensors += [t for group in batch.images for t in (group.pixels, group.positions)]
    return sum(tensor.nbytes for tensor in tensors)


def _check_same(case: _Case) -> None:
    """Raises Db1Error unless the reference's first samples hold what db1's do."""
    for i in range(_CHECKED):
        theirs, batch = case.reference[i], collate([case.same(i)])
        pairs = [(theirs[key], getattr(batch, key)[0]) for key in ("ids", "labels", "loss_mask")]
        pairs.append((theirs["local_positions"], batch.local_positions[0]))
        for group in batch.images:
            patches = standardize(to_patches(group.pixels, 16)).flatten(0, 1)
            seen = patches[group.positions.flatten() < LENGTH]
            pairs.append((theirs["patches"], seen))
        if not all(torch.allclose(a, b, atol=1e-5) for a, b in pairs):
            raise Db1Error(f"{case.name}: sample {i} of {REFERENCE} is not db1's")
