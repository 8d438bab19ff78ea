"""Statistics of a store's pairs: their number, lengths, answers and image sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from db1.store.pairs import PairStore

MAX_COMMON = 20
_MAX_COUNTED = 1 << 20
"""Different texts that are told apart; beyond, the rarest ones are forgotten."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Smallest, mean and largest of some numbers."""

    minimum: int
    mean: float
    maximum: int

    @classmethod
    def of(cls, values: np.ndarray) -> Spread | None:
        """Of integers (N,); None where there are none."""
        if not len(values):
            return None
        return cls(minimum=int(values.min()), mean=float(values.mean()), maximum=int(values.max()))


@dataclass(frozen=True, kw_only=True)
class PairStatistics:
    """A whole store.

    Args:
        kind: `caption` or `question`.
        num_pairs: Complete pairs.
        num_images: Images that they share.
        image_bytes: Of the compressed images together.
        heights: Of the images in pixels.
        widths: Of the images in pixels.
        texts_per_pair: Captions or answers that are not empty.
        text_characters: Of each caption or answer.
        question_characters: Of each question; None for captions.
        num_without_text: Questions without an answer.
        common_texts: The most frequent texts and how often they occur, at most 20.
    """

    kind: str
    num_pairs: int
    num_images: int
    image_bytes: int
    heights: Spread | None
    widths: Spread | None
    texts_per_pair: Spread | None
    text_characters: Spread | None
    question_characters: Spread | None
    num_without_text: int
    common_texts: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able numbers."""
        return asdict(self)


def pair_statistics(
    store: PairStore, progress: Callable[[int, int], None] | None = None
) -> PairStatistics:
    """Reads every pair of a store and sums it up.

    Args:
        store: The store.
        progress: Called with (pairs done, all pairs).

    Raises:
        DataError: A damaged pair.
    """
    questions, lengths, num_texts = [], [], store.num_texts()
    common: Counter[str] = Counter()
    for number in range(store.num_pairs):
        pair = store.pair(number)
        lengths += [len(text) for text in pair.texts]
        if pair.question is not None:
            questions.append(len(pair.question))
        common.update(pair.texts)
        if len(common) > _MAX_COUNTED:
            common = Counter(dict(common.most_common(_MAX_COUNTED // 2)))
        if progress:
            progress(number + 1, store.num_pairs)
    sizes = store.image_sizes()
    return PairStatistics(
        kind=store.header.kind,
        num_pairs=store.num_pairs,
        num_images=store.num_images,
        image_bytes=store.image_bytes,
        heights=Spread.of(sizes[:, 0]),
        widths=Spread.of(sizes[:, 1]),
        texts_per_pair=Spread.of(num_texts),
        text_characters=Spread.of(np.array(lengths)),
        question_characters=Spread.of(np.array(questions)),
        num_without_text=int((num_texts == 0).sum()),
        common_texts=tuple(common.most_common(MAX_COMMON)),
    )
