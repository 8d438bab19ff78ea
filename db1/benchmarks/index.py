"""The index builder against megatron-core's helpers and against NumPy.

    sample index   where each sample of 10 million documents starts
    blend          which of 7 and of 1,000 datasets each of 10 million samples comes from:
                   `db1` is the fair rule of training, `db1 greedy` is Megatron's rule

What both make is compared before the clock runs. Without megatron-core the reference is NumPy, for
the sample index only; `pip install --no-deps megatron-core==0.16.1` brings it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np

from db1.benchmarks.timing import OURS, Comparison, Contender, compare
from db1.errors import Db1Error
from db1.index.fair import fair_index
from db1.index.index import blending_index, reference_sample_index, sample_index

Progress = Callable[[str, int, int], None]

MEGATRON = "megatron-core"
SEVEN = (0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02)
SEQUENCE_LENGTH = 1024


def bench_index(quick: bool = False, *, progress: Progress | None = None) -> list[Comparison]:
    """Measures sample index and blends side by side.

    Args:
        quick: A hundredth of the documents and samples.
        progress: Called with (work, finished rounds, all rounds).

    Returns:
        One comparison for each piece of work; the unit is a document or a sample.

    Raises:
        Db1Error: The contenders do not make the same.
    """
    megatron = _megatron()
    count = 100_000 if quick else 10_000_000
    skewed = np.random.default_rng(0).random(1_000) ** 3 + 1e-3
    return [
        _sample_index(count, megatron, progress),
        _blend(np.array(SEVEN), count, megatron, 5, progress),
        _blend(skewed, count, megatron, 1, progress),
    ]


def _sample_index(
    num_documents: int, megatron: ModuleType | None, progress: Progress | None
) -> Comparison:
    generator = np.random.default_rng(0)
    sizes = np.maximum(generator.lognormal(6.0, 1.0, num_documents), 1.0).astype(np.int32)
    documents = np.arange(num_documents, dtype=np.int32)
    total = int(sizes.sum(dtype=np.int64))

    def theirs() -> np.ndarray:
        assert megatron is not None
        return megatron.build_sample_idx_int64(sizes, documents, SEQUENCE_LENGTH, 1, total, True, 1)

    def ours() -> np.ndarray:
        return sample_index(sizes, SEQUENCE_LENGTH)

    def in_numpy() -> np.ndarray:
        return reference_sample_index(sizes, SEQUENCE_LENGTH)

    contenders = {OURS: ours, "NumPy": in_numpy}
    if megatron is not None:
        contenders = {OURS: ours, MEGATRON: theirs, "NumPy": in_numpy}
    _check_same("sample index", [make() for make in contenders.values()])
    return compare(
        f"sample index of {num_documents:,} documents",
        "document",
        [Contender(name=name, run=run, amount=num_documents) for name, run in contenders.items()],
        rounds=5,
        progress=progress,
    )


def _blend(
    weights: np.ndarray,
    num_samples: int,
    megatron: ModuleType | None,
    rounds: int,
    progress: Progress | None,
) -> Comparison:
    weights = weights / np.cumsum(weights)[-1]
    parts = np.rint(weights * (100 if len(weights) == len(SEVEN) else 1 << 40)).astype(np.int64)

    def theirs(count: int = num_samples) -> np.ndarray:
        assert megatron is not None
        dataset = np.zeros(count, dtype=np.int16)
        within = np.zeros(count, dtype=np.int64)
        megatron.build_blending_indices(dataset, within, weights, len(weights), count, False)
        return dataset

    contenders: dict[str, Callable[[], object]] = {
        OURS: lambda: fair_index(parts, num_samples),
        "db1 greedy": lambda: blending_index(weights, num_samples),
    }
    if megatron is not None:
        contenders[MEGATRON] = theirs
        checked = min(num_samples, 100_000)
        _check_same("blend", [blending_index(weights, checked)[0], theirs(checked)])
    return compare(
        f"blend of {num_samples:,} samples over {len(weights):,} datasets",
        "sample",
        [Contender(name=name, run=run, amount=num_samples) for name, run in contenders.items()],
        rounds=rounds,
        progress=progress,
    )


def _check_same(work: str, results: list[np.ndarray]) -> None:
    for other in results[1:]:
        if not np.array_equal(results[0], other):
            raise Db1Error(f"bench index: the contenders make different {work}s; a bug in db1")


def _megatron() -> ModuleType | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from megatron.core.datasets import helpers_cpp
        except ImportError:
            return None
    return helpers_cpp
