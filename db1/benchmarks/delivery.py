"""Bytes that readers must deliver to a training, against what stores give.

A GPU takes u tokens a second. A sample of T tokens has s stored bytes, needs k reads, and takes c
seconds of a core. Then

    bytes a second from the store   u s / T
    readers, files in memory        u c / T
    readers, network file system    u (c + k l + s / b) / T

c is measured by the code of `db1 bench data`, with files in the page cache; the latency l and the
bandwidth b are assumed, and nothing is cached there. A reader reads one piece after the other, so
it waits for each of the k.

Example: 1,024,000 tokens a second are 1,000 samples of 1,024; with c = 0.1 ms, two reads of 1 ms
and s = 0 that takes 0.1 readers from memory and 2.1 over the network: 1 and 3 processes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from db1.benchmarks.batches import batch_bytes
from db1.benchmarks.cases import LENGTH, Case, control_case, image_case, text_case
from db1.benchmarks.corpora import TaskSize
from db1.benchmarks.data import FULL, QUICK, DataSizes, bench_samples
from db1.benchmarks.timing import OURS
from db1.data.collate import collate
from db1.data.mixture import generator_of
from db1.data.sources import EpisodeSource, Source, TextSource

Progress = Callable[[str, int, int], None]

_COMPRESSED = "db1, zlib frames"
_SIZES = replace(FULL, images=TaskSize(num_episodes=4, num_steps=500), num_samples=100, rounds=5)
_DRAWS = 64
"""Samples whose bytes are averaged."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One kind of sample, as one reader delivers it.

    Args:
        name: Its modality.
        seconds: Of a core, for a sample of 1,024 tokens.
        stored_bytes: Of a sample, on disk.
        reads: Of a sample, one after the other.
        batch_bytes: Of a sample, on its way to the device.
    """

    name: str
    seconds: float
    stored_bytes: float
    reads: int
    batch_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`, with those of a second of a core."""
        return asdict(self) | {
            "tokens_a_second": LENGTH / self.seconds,
            "stored_bytes_a_second": self.stored_bytes / self.seconds,
        }


def measure(quick: bool = False, progress: Progress | None = None) -> list[Delivery]:
    """Measures stores of each modality on this machine, one core, by processor time.

    Args:
        quick: Small sizes; seconds.
        progress: Called with (work, finished rounds, all rounds).
    """
    sizes = QUICK if quick else _SIZES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "text": text_case(folder / "text", sizes.num_documents),
            "control": control_case(folder / "control", sizes.control),
            "images 64x64": image_case(folder / "images64", sizes.images, 64),
            "images 80x80": image_case(folder / "images80", sizes.images, 80),
        }
        return [
            found
            for kind, case in cases.items()
            for found in _deliveries(kind, case, sizes, progress)
        ]


def _deliveries(
    kind: str, case: Case, sizes: DataSizes, progress: Progress | None
) -> Iterator[Delivery]:
    timings = {timing.name: timing for timing in bench_samples(case, sizes, progress).timings}
    for contender, suffix in ((OURS, ""), (_COMPRESSED, ", zlib")):
        if contender in case.sources:
            source = case.sources[contender]
            stored, reads = stored_sample(source)
            yield Delivery(
                name=kind + suffix,
                seconds=timings[contender].median,
                stored_bytes=stored,
                reads=reads,
                batch_bytes=_mean(batch_bytes(collate([s])) for s in _samples(source)),
            )


def stored_sample(source: Source) -> tuple[float, int]:
    """Mean bytes that a sample takes on disk, and the reads that it needs.

    Documents lie end to end, one read a sample. Of an episode each field of the window is a read,
    and so are the actions; compressed frames need another one for where they lie.

    Args:
        source: A task's without prompts, or a corpus's.
    """
    if isinstance(source, TextSource):
        return float((LENGTH + 1) * source.store.dtype.itemsize), 1
    assert isinstance(source, EpisodeSource)
    store = source.store
    windows = (source.windows.draw(generator_of(0, n)) for n in range(_DRAWS))
    steps = _mean(stop - start for _, start, stop in windows)
    is_compressed = store.header.image_format != "raw"
    observed = store.spec.observation.values()
    reads = 1 + sum(2 if f.kind == "image" and is_compressed else 1 for f in observed)
    return steps * store.num_bytes / store.num_steps, reads


def _samples(source: Source) -> Iterator[Any]:
    return (source.sample(n, generator_of(0, n)) for n in range(_DRAWS // 4))


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A file system behind a network.

    Args:
        bandwidth: Bytes a second of a machine.
        latency: Seconds of an access.
    """

    bandwidth: float
    latency: float


def need(
    found: Delivery, tokens_a_second: float, node: int, length: int, storage: Storage
) -> dict[str, Any]:
    """Requirements of one GPU, and of a machine, for one kind of sample.

    Args:
        found: The sample.
        tokens_a_second: Of a GPU.
        node: GPUs of a machine.
        length: Tokens of a sample in training; bytes and processor time grow with it.
        storage: The network file system.
    """
    times = length / LENGTH
    samples = tokens_a_second / length
    seconds, stored = times * found.seconds, times * found.stored_bytes
    waiting = found.reads * storage.latency + stored / storage.bandwidth
    return {
        "modality": found.name,
        "stored_bytes_a_second": samples * stored,
        "batch_bytes_a_second": samples * times * found.batch_bytes,
        "readers_local": math.ceil(samples * seconds),
        "readers_network": math.ceil(samples * (seconds + waiting)),
        "network_share": node * samples * stored / storage.bandwidth,
    }


def needs(
    sizes: Sequence[Mapping[str, Any]], found: Sequence[Delivery], node: int, storage: Storage
) -> list[dict[str, Any]]:
    """`need` of each size and modality.

    Args:
        sizes: From `db1.benchmarks.scaling.run`.
        found: From `measure`.
        node: GPUs of a machine.
        storage: The network file system.
    """
    return [
        {"size": size["name"]}
        | need(each, size["tokens_a_second_of_a_gpu"], node, size["sequence"], storage)
        for size in sizes
        for each in found
    ]
