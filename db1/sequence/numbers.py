"""Positions of number patches among the tokens of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from db1.errors import DataError
from db1.tokens.number_patch import NumberPatches, concatenate_patches
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER


@dataclass(frozen=True, kw_only=True)
class PlacedNumbers:
    """Number patches of a batch.

    Args:
        patches: N patches, row by row.
        positions: int64 (N,), place of each in the flattened (B * T) tokens.
    """

    patches: NumberPatches
    positions: np.ndarray


def place_numbers(numbers: Sequence[NumberPatches | None], ids: np.ndarray) -> PlacedNumbers | None:
    """Finds the place of every number patch; None where there is none.

    Args:
        numbers: For each row its patches in the order of their placeholders. Those after the
            last placeholder of the row, which were cut off, are left out.
        ids: (B, T) with `NUMBER_PLACEHOLDER` at patches.

    Raises:
        DataError: When a row has fewer patches than placeholders.
    """
    is_number = ids == NUMBER_PLACEHOLDER
    counts = is_number.sum(axis=1)
    if not counts.any():
        return None
    kept = []
    for row, (patches, count) in enumerate(zip(numbers, counts.tolist(), strict=True)):
        given = 0 if patches is None else len(patches)
        if given < count:
            raise DataError(f"row {row}: {count} number placeholders, but {given} patches for them")
        kept.append(None if patches is None else patches[:count])
    patches = concatenate_patches(kept)
    assert patches is not None
    return PlacedNumbers(patches=patches, positions=np.flatnonzero(is_number))
