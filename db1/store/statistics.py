"""Statistics of a store's values: ranges, moments, what the tokenizer would clip.

Columns are read one after the other in chunks of a few MiB, across episodes, so memory does not
grow with the store and short episodes cost no more than long ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from db1.store.columns import Column, TextColumn
from db1.tokens.spec import FieldSpec

STRING_CHUNK = 16_384


@dataclass(frozen=True, kw_only=True)
class FieldStatistics:
    """One field of a store, over all its steps. What a kind does not have is None.

    Args:
        kind: Of the field.
        num_values: Scalars in all steps (texts of a text field).
        minimum: Smallest finite value.
        maximum: Largest finite value.
        mean: Of the finite values.
        std: Of the finite values, dividing by their number.
        clipped_share: Share of the finite values of a continuous field beyond what the tokenizer
            tells apart: [-M, M] for observations, [-1, 1] for actions.
        num_nan: Values that are no number; continuous fields.
        num_infinite: Infinite values; continuous fields.
        first_not_finite: First episode that has one of the two.
        value_counts: How often each value of a discrete field occurs.
        num_texts: Number of different texts.
        constant_frames_share: Share of the images whose pixels all have one value.
    """

    kind: str
    num_values: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    clipped_share: float | None = None
    num_nan: int | None = None
    num_infinite: int | None = None
    first_not_finite: int | None = None
    value_counts: tuple[int, ...] | None = None
    num_texts: int | None = None
    constant_frames_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class StoreStatistics:
    """A whole store.

    Args:
        num_episodes: Complete episodes.
        num_steps: Their steps.
        lengths: int64 (num_episodes,), steps of each.
        returns: float64 (num_episodes,), undiscounted.
        fields: By column name: `observations.<key>`, `actions`, `rewards`.
    """

    num_episodes: int
    num_steps: int
    lengths: np.ndarray
    returns: np.ndarray
    fields: dict[str, FieldStatistics]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able numbers."""
        return {
            "num_episodes": self.num_episodes,
            "num_steps": self.num_steps,
            "lengths": self.lengths.tolist(),
            "returns": self.returns.tolist(),
            "fields": {name: asdict(value) for name, value in self.fields.items()},
        }


def field_statistics(
    column: Column,
    field: FieldSpec,
    offsets: np.ndarray,
    limit: float | None,
    progress: Callable[[int], None],
) -> FieldStatistics:
    """Reads one column and sums it up.

    Args:
        column: The column.
        field: What its values are.
        offsets: int64 (num_episodes + 1,), first step of each episode, then the total.
        limit: Largest magnitude of a continuous value that the tokenizer tells apart; None: any.
        progress: Called with the number of rows read so far.

    Raises:
        DataError: The column's files are damaged.
    """
    chunks = _chunks(column, int(offsets[-1]), progress)
    if isinstance(column, TextColumn):
        return _of_texts(column, int(offsets[-1]), progress)
    if field.kind == "continuous":
        return _of_numbers(chunks, offsets, limit)
    return _of_integers(chunks, field, str(column.files[0].path))


def _chunks(
    column: Column, num_steps: int, progress: Callable[[int], None]
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and values of each chunk."""
    step = column.chunk_steps()
    for first in range(0, num_steps, step):
        last = min(first + step, num_steps)
        yield first, column.read(first, last)
        progress(last)


def _of_numbers(
    chunks: Iterator[tuple[int, np.ndarray]], offsets: np.ndarray, limit: float | None
) -> FieldStatistics:
    num_values = num_nan = num_infinite = num_clipped = num_finite = 0
    mean = squares = 0.0
    minimum, maximum, first_not_finite = np.inf, -np.inf, None
    for first, rows in chunks:
        num_values += rows.size
        is_finite = np.isfinite(rows)
        if not is_finite.all():
            num_nan += int(np.isnan(rows).sum())
            num_infinite += int(np.isinf(rows).sum())
            if first_not_finite is None:
                step = first + int(np.argmin(is_finite.reshape(len(rows), -1).all(axis=1)))
                first_not_finite = int(np.searchsorted(offsets, step, side="right")) - 1
        values = rows[is_finite].astype(np.float64)
        if not values.size:
            continue
        minimum, maximum = min(minimum, values.min()), max(maximum, values.max())
        num_clipped += 0 if limit is None else int((np.abs(values) > limit).sum())
        # Moments of two parts together: Chan, Golub and LeVeque 1983.
        delta, total = values.mean() - mean, num_finite + values.size
        squares += values.var() * values.size + delta**2 * num_finite * values.size / total
        mean += delta * values.size / total
        num_finite = total
    moments = {}
    if num_finite:
        moments = {"minimum": float(minimum), "maximum": float(maximum), "mean": float(mean)}
        moments["std"] = float(np.sqrt(squares / num_finite))
        if limit is not None:
            moments["clipped_share"] = num_clipped / num_finite
    return FieldStatistics(
        kind="continuous",
        num_values=num_values,
        num_nan=num_nan,
        num_infinite=num_infinite,
        first_not_finite=first_not_finite,
        **moments,
    )


def _of_integers(
    chunks: Iterator[tuple[int, np.ndarray]], field: FieldSpec, where: str
) -> FieldStatistics:
    """Images and discrete values: exact, from a histogram."""
    is_image = field.kind == "image"
    counts = np.zeros(256 if is_image else field.num_values, dtype=np.int64)
    num_rows = num_constant = 0
    for _, rows in chunks:
        if not is_image:
            field.check_values(rows, where)
        counts += np.bincount(rows.ravel(), minlength=len(counts))
        num_rows += len(rows)
        if is_image and rows.size:
            frames = rows.reshape(len(rows), -1)
            num_constant += int((frames == frames[:, :1]).all(axis=1).sum())
    num_values, moments = int(counts.sum()), {}
    if num_values:
        values, shares = np.arange(len(counts)), counts / num_values
        mean = float(values @ shares)
        present = np.flatnonzero(counts)
        moments = {"minimum": float(present[0]), "maximum": float(present[-1]), "mean": mean}
        moments["std"] = float(np.sqrt((values - mean) ** 2 @ shares))
    return FieldStatistics(
        kind=field.kind,
        num_values=num_values,
        value_counts=None if is_image else tuple(counts.tolist()),
        constant_frames_share=num_constant / num_rows if is_image and num_rows else None,
        **moments,
    )


def _of_texts(
    column: TextColumn, num_steps: int, progress: Callable[[int], None]
) -> FieldStatistics:
    """Counts different texts by their hashes: a text may stand in the table twice."""
    is_used = np.zeros(len(column.strings), dtype=bool)
    num_values, step = 0, column.chunk_steps()
    for first in range(0, num_steps, step):
        numbers = column.read_numbers(first, min(first + step, num_steps))
        column.check_numbers(numbers, len(is_used))
        is_used[numbers.ravel()] = True
        num_values += numbers.size
        progress(min(first + step, num_steps))
    hashes = np.empty(int(is_used.sum()), dtype=np.uint64)
    done = 0
    for first in range(0, len(is_used), STRING_CHUNK):
        used = is_used[first : first + STRING_CHUNK]
        lines = column.strings.lines(first, first + len(used))
        for line in (line for line, wanted in zip(lines, used, strict=True) if wanted):
            digest = blake2b(line, digest_size=8).digest()
            hashes[done] = int.from_bytes(digest, "little")
            done += 1
    return FieldStatistics(
        kind="text", num_values=num_values, num_texts=len(np.unique(hashes)) if done else 0
    )
