"""Text tokens -> a training sequence; every token but the first is predicted."""

from __future__ import annotations

import numpy as np

from db1.sequence.sample import NO_LOCAL_POSITION, Sample
from db1.tokens.vocabulary import Vocabulary


def encode_text(tokens: np.ndarray, vocabulary: Vocabulary, source: str) -> Sample:
    """Tokenizer ids (n,) -> a sequence of n tokens without local positions.

    Raises:
        DataError: For an id outside the vocabulary's text range.
    """
    ids = vocabulary.text_ids(tokens)
    return Sample(
        ids=ids,
        local_positions=np.full(len(ids), NO_LOCAL_POSITION, dtype=np.int32),
        target_mask=np.ones(len(ids), dtype=bool),
        source=source,
    )
