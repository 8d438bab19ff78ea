"""Shuffles of any size that are never written down: each place is computed when it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from db1.index.extension import call_extension, count_of, integer_array

NUM_ROUNDS = 8
_MASK = (1 << 64) - 1


class Permutation:
    """The shuffle of 0..size-1 that belongs to (seed, epoch), with random access in O(1).

    A Feistel network of 8 rounds permutes 0..2^b - 1, the next power of two; a value outside is
    sent through again until it is inside, which takes less than two rounds on average.

    Args:
        seed: Seed of the run.
        epoch: A shuffle of its own for each.
        size: Number of elements, at least 1.

    Raises:
        DataError: A size below 1 or above 2**62.

    Source: J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """

    def __init__(self, seed: int, epoch: int, size: int) -> None:
        self._size = count_of(size, "size", 1)
        self.keys = np.random.SeedSequence([seed, epoch]).generate_state(NUM_ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        """Returns the element at place `index`.

        Raises:
            DataError: No such place.
        """
        return int(self.take([index])[0])

    def take(self, indices: ArrayLike) -> np.ndarray:
        """Returns the elements at the places `indices` (N,), int64 (N,).

        Raises:
            DataError: A place outside 0..size-1.
        """
        wanted = integer_array(indices, "indices")
        return call_extension("permute", wanted, self._size, self.keys)


def reference_permute(indices: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """`Permutation.take` in plain Python: indices (N,) -> int64 (N,)."""
    bits = max(2, (size - 1).bit_length())
    return np.array([_walk(int(i), size, bits, [int(k) for k in keys]) for i in indices], np.int64)


def _walk(value: int, size: int, bits: int, keys: list[int]) -> int:
    while True:
        low_bits = bits - bits // 2
        for key in keys:
            high_bits = bits - low_bits
            low, high = value & ((1 << low_bits) - 1), value >> low_bits
            mixed = _mix((low + key) & _MASK) & ((1 << high_bits) - 1)
            value = low << high_bits | (high ^ mixed)
            low_bits = high_bits
        if value < size:
            return value


def _mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31
