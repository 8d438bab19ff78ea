"""Texts that a model writes about the images of a store, a part of them in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from db1.inference.image_text import ImageTextWriter, Progress, WritingConfig
from db1.metrics.pair_selection import ScoredPairs
from db1.sequence.segment import TokenSegment

_CHUNK = 512
"""Images in memory at once."""


@dataclass(frozen=True, kw_only=True)
class PairTexts:
    """Generated texts of some pairs.

    Args:
        texts: A caption or an answer of each pair.
        num_cut: Pairs whose question did not fit and was cut, as in training.
    """

    texts: list[str]
    num_cut: int


def write_texts(
    writer: ImageTextWriter,
    pairs: ScoredPairs,
    config: WritingConfig,
    *,
    closed: Sequence[str] = (),
    prompt: str | None = None,
    progress: Progress | None = None,
) -> PairTexts:
    """Describes images, or answers their questions.

    Args:
        writer: The run.
        pairs: Of captions or of questions.
        config: How texts are written.
        closed: Choose the likeliest of these answers; empty: write freely.
        prompt: In front of the image where a pair has no prompt of its own; None: as trained.
        progress: Called with (finished pairs, all pairs).

    Raises:
        DataError: An image that cannot be decoded; names it.
    """
    texts: list[str] = []
    num_cut = 0
    for first in range(0, len(pairs), _CHUNK):
        part = range(first, min(first + _CHUNK, len(pairs)))
        prompts = [_prompt(writer, pairs, i, prompt) for i in part]
        num_cut += sum(p.num_cut > 0 for p in prompts)
        done = len(texts)

        def report(finished: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done + finished, len(pairs))

        if closed:
            texts += [chosen.text for chosen in writer.choose(prompts, closed, report)]
        else:
            numbers = pairs.indices[first : first + len(prompts)].tolist()
            texts += [written.text for written in writer.write(prompts, config, numbers, report)]
    return PairTexts(texts=texts, num_cut=num_cut)


def seen_pixels(writer: ImageTextWriter, pairs: ScoredPairs, i: int) -> np.ndarray:
    """The image of scored pair `i` as the model is shown it, uint8 (H, W, 3)."""
    store, number = pairs.place(i)
    where = f"{store.path} pair {number}, image {store.pair(number).image_name}"
    return writer.load_image(store.image_of(number), where).pixels


def _prompt(
    writer: ImageTextWriter, pairs: ScoredPairs, i: int, prompt: str | None
) -> TokenSegment:
    store, number = pairs.place(i)
    pair = store.pair(number)
    text = prompt if pair.prompt is None else pair.prompt
    return writer.prompt(seen_pixels(writer, pairs, i), pair.question, text, cut=True)
