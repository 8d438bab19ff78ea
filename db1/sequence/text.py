"""Text tokens -> a training sequence; every token but the first is predicted."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment
from db1.tokens.vocabulary import Vocabulary


def encode_text(tokens: np.ndarray, vocabulary: Vocabulary, source: str) -> TokenSegment:
    """Tokenizer ids (n,) -> a sequence of n tokens without local positions.

    Raises:
        DataError: For an id outside the vocabulary's text range.
    """
    ids = vocabulary.text_ids(tokens)
    local_positions, target_mask = _plain(len(ids))
    return TokenSegment(
        ids=ids, local_positions=local_positions, target_mask=target_mask, source=source
    )


@lru_cache(maxsize=16)
def _plain(length: int) -> tuple[np.ndarray, np.ndarray]:
    """No local positions, int32, and a target at every token, bool; read-only."""
    local_positions = np.full(length, NO_LOCAL_POSITION, dtype=np.int32)
    target_mask = np.ones(length, dtype=bool)
    local_positions.setflags(write=False)
    target_mask.setflags(write=False)
    return local_positions, target_mask
