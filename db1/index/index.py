"""Starts of training samples: the Python face of the C++ index builder, and its reference.

Every index has two implementations that give the same bytes: the extension module `db1._index`
(csrc/index.cpp) and `reference_*` below, in NumPy. The reference says what is meant; the extension
is what runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from db1.index.extension import call_extension, count_of, integer_array, real_array


def sample_index(
    sizes: ArrayLike,
    sequence_length: int,
    num_samples: int | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> np.ndarray:
    """Cuts documents, laid end to end, into samples; row i says where sample i starts.

    Sample i covers the tokens [i * sequence_length, (i + 1) * sequence_length], one more than
    `sequence_length` because the last is only a label and is the next sample's first.

    Worked example: sizes [3, 5, 2, 7], sequence 4. 17 tokens give (17 - 1) // 4 = 4 samples:

        token     0 1 2 | 3 4 5 6 7 | 8 9 | 10 11 12 13 14 15 16
        document  0     | 1         | 2   | 3
        starts    ^         ^         ^           ^            ^
        rows    [0, 0]    [1, 1]   [2, 0]      [3, 2]       [3, 6] (end of the last sample)

    Args:
        sizes: Tokens of each document, integers (num_documents,); empty documents are legal.
        sequence_length: Tokens from one sample's start to the next, at least 1.
        num_samples: Samples wanted; None for one epoch. Beyond one epoch the documents repeat and
            their number counts on: document number % num_documents, epoch number // num_documents.
        start: First row wanted.
        stop: Last row wanted (the end of sample stop - 1); None for num_samples.

    Returns:
        int64 (stop - start + 1, 2), columns document number and token within it. The first row of
        all is [0, 0] even when document 0 is empty.

    Raises:
        DataError: Negative sizes, or samples of no tokens.

    Source: Megatron-LM, helpers.build_sample_idx (semantics).
    """
    wanted = -1 if num_samples is None else count_of(num_samples, "num_samples")
    return call_extension(
        "sample_index",
        integer_array(sizes, "sizes", keep_int32=True),
        count_of(sequence_length, "sequence_length", 1),
        wanted,
        count_of(start, "start"),
        -1 if stop is None else count_of(stop, "stop"),
    )


class SampleStarts:
    """Rows of `sample_index` found one by one: nothing but the documents' ends is held.

    Args:
        sizes: As for `sample_index` (num_documents,).
        sequence_length: As for `sample_index`.

    Raises:
        DataError: Negative sizes.
    """

    def __init__(self, sizes: ArrayLike, sequence_length: int) -> None:
        sizes = integer_array(sizes, "sizes")
        sample_index(sizes, sequence_length, 0)  # checks both
        self._length = sequence_length
        self._ends = np.cumsum(sizes)
        total = int(self._ends[-1]) if len(sizes) else 0
        self._num_samples = max(total - 1, 0) // self._length

    def __len__(self) -> int:
        """Samples of one epoch."""
        return self._num_samples

    def __getitem__(self, row: int) -> tuple[int, int]:
        """Returns (document, token within it) where sample `row` starts, 0 <= row <= len(self).

        Raises:
            IndexError: No such row.
        """
        if not 0 <= row <= self._num_samples:
            raise IndexError(row)
        if row == 0:
            return 0, 0
        token = row * self._length
        document = int(np.searchsorted(self._ends, token, side="right"))
        return document, token - int(self._ends[document - 1] if document else 0)


def window_index(lengths: ArrayLike, window: int) -> np.ndarray:
    """Numbers the windows of all episodes: an episode of n steps has max(1, n - window + 1).

    Worked example: lengths [5, 2, 4], window 3. Windows 0..2 start at steps 0..2 of episode 0,
    window 3 is all of episode 1, windows 4 and 5 start at steps 0 and 1 of episode 2:
    counts [0, 3, 4, 6].

    Args:
        lengths: Steps of each episode, integers of at least 1 (num_episodes,).
        window: Steps of a window, at least 1.

    Returns:
        Cumulative number of windows, int64 (num_episodes + 1,); the last is their total.

    Raises:
        DataError: A length or the window is below 1.
    """
    return call_extension(
        "window_index", integer_array(lengths, "lengths"), count_of(window, "window", 1)
    )


def window_lookup(counts: np.ndarray, windows: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Finds the windows of the given numbers.

    Args:
        counts: Result of `window_index`.
        windows: Window numbers in [0, counts[-1]), integers (num_windows,).

    Returns:
        Episodes and start steps, int64 (num_windows,) each.

    Raises:
        DataError: A number outside.
    """
    return call_extension(
        "window_lookup", integer_array(counts, "counts"), integer_array(windows, "windows")
    )


def blending_index(weights: ArrayLike, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Blends datasets: each sample comes from the one that is furthest behind its share.

    Before sample n, dataset i with share s_i and c_i samples drawn is max(n, 1) s_i - c_i behind;
    the largest is drawn from, of equals the first. No dataset is drawn from while it is ahead of
    its share, so after any n samples c_i < n s_i + 1: never a whole sample too many. A dataset may
    fall behind by a little more than one sample (-1.7 was the worst of 300 random blends of up to
    39 datasets): the price of the greedy rule, kept because it is Megatron's. Training uses the
    fair blend (fair.py), which is never a whole sample off either way.

    Worked example: weights [.5, .2, .1, .1, .05, .03, .02] start with the datasets
    0 1 2 0 3 0 4 0 1 0 5 0 1 0 2 0 3 0 1 0.

    Args:
        weights: Finite numbers of at least 0, one a dataset, not all 0; normalised here. A
            dataset of weight 0 is never drawn from.
        num_samples: Samples in all.

    Returns:
        Dataset of each sample and number of the sample within its dataset, int64 (num_samples,)
        each.

    Raises:
        DataError: Bad weights.

    Source: Megatron-LM, helpers.build_blending_indices (semantics).
    """
    return call_extension(
        "blending_index", real_array(weights, "weights"), count_of(num_samples, "num_samples")
    )


def reference_sample_index(
    sizes: np.ndarray, sequence_length: int, num_samples: int | None = None
) -> np.ndarray:
    """`sample_index` in NumPy, int64 (num_samples + 1, 2)."""
    sizes = np.asarray(sizes, dtype=np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    if num_samples is None:
        num_samples = max(total - 1, 0) // sequence_length
    epochs, tokens = np.divmod(np.arange(num_samples + 1) * sequence_length, max(total, 1))
    documents = np.searchsorted(ends, tokens, side="right")
    starts = np.append(ends - sizes, 0)
    rows = np.stack([documents + epochs * len(sizes), tokens - starts[documents]], axis=1)
    rows[0] = 0
    return rows


def reference_window_index(lengths: np.ndarray, window: int) -> np.ndarray:
    """`window_index` in NumPy, int64 (num_episodes + 1,)."""
    counts = np.maximum(1, np.asarray(lengths, dtype=np.int64) - window + 1)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def reference_window_lookup(
    counts: np.ndarray, windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`window_lookup` in NumPy, int64 (num_windows,) twice."""
    episodes = np.searchsorted(counts, windows, side="right") - 1
    return episodes, windows - counts[episodes]


def reference_blending_index(
    weights: np.ndarray, num_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """`blending_index` in NumPy, one argmax per sample; int64 (num_samples,) twice."""
    weights = np.asarray(weights, dtype=np.float64)
    shares = weights / np.cumsum(weights)[-1]  # summed in order, as the extension does
    drawn_from = np.flatnonzero(shares > 0)
    drawn = np.zeros(len(drawn_from))
    dataset, within = np.empty((2, num_samples), dtype=np.int64)
    for sample in range(num_samples):
        best = int(np.argmax(shares[drawn_from] * max(sample, 1) - drawn))
        dataset[sample], within[sample] = drawn_from[best], drawn[best]
        drawn[best] += 1
    return dataset, within
