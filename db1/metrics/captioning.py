"""Scores of captions against references: BLEU-1..4, ROUGE-L, CIDEr-D.

They equal those of the COCO caption evaluation on the same tokens. Its tokenizer (Stanford's, in
Java) is not part of db1: `tokenize_caption` splits as it does on plain captions, so compare numbers
with published ones only after tokenising both sides the same way. METEOR and SPICE need Java.

Sources: Papineni et al. 2002 (BLEU); Lin 2004 (ROUGE-L); Vedantam et al. 2015 (CIDEr-D);
Chen et al. 2015, "Microsoft COCO captions", section 3 (their use for captions).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from db1.errors import DataError

MAX_NGRAM = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0

Tokens = Sequence[str]
_NgramCounts = Counter[tuple[str, ...]]
_WORD = re.compile(r"'(?:s|m|d|ll|re|ve)\b|n't\b|\w+(?:[-.]\w+)*?(?=n't\b)|\w+(?:[-.,]\w+)*")
_TINY, _SMALL = 1e-15, 1e-9
"""Guards of the COCO evaluation against division by zero."""


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores of a set of captions; means over its items but for BLEU, which is of the whole set.

    Args:
        bleu: BLEU-1, BLEU-2, BLEU-3, BLEU-4.
        rouge_l: ROUGE-L.
        cider_d: CIDEr-D (0 to 10).
        rouge_l_items: float64 (num_items,).
        cider_d_items: float64 (num_items,).
    """

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider_d: float
    rouge_l_items: np.ndarray
    cider_d_items: np.ndarray

    def to_dict(self) -> dict[str, float]:
        """The scores by name, for a report."""
        scores = {f"BLEU-{n}": score for n, score in enumerate(self.bleu, start=1)}
        return {**scores, "ROUGE-L": self.rouge_l, "CIDEr-D": self.cider_d}


def tokenize_caption(text: str) -> list[str]:
    """Lower-case words without punctuation; "it's" -> it 's, "don't" -> do n't."""
    return _WORD.findall(text.lower())


def score_captions(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> CaptionScores:
    """Scores captions.

    Args:
        hypotheses: Tokens of the written caption of each item.
        references: Tokens of one or more reference captions of each item.

    Raises:
        DataError: No item, another number of references, or an item without one.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise DataError(
            f"captions: {len(hypotheses)} written, references for {len(references)}; expected as "
            "many, at least one"
        )
    for i, item in enumerate(references):
        if not item:
            raise DataError(f"captions: item {i} has no reference")
    pairs = list(zip(hypotheses, references, strict=True))
    rouge = np.array([_rouge_l(hypothesis, item) for hypothesis, item in pairs])
    cider = _cider_d(hypotheses, references)
    return CaptionScores(
        bleu=_bleu(pairs),
        rouge_l=float(rouge.mean()),
        cider_d=float(cider.mean()),
        rouge_l_items=rouge,
        cider_d_items=cider,
    )


def _ngrams(tokens: Tokens, n: int) -> _NgramCounts:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _bleu(
    pairs: Sequence[tuple[Tokens, Sequence[Tokens]]],
) -> tuple[float, float, float, float]:
    """Corpus BLEU with the closest reference length (the shorter of two)."""
    correct, guessed = np.zeros(MAX_NGRAM), np.zeros(MAX_NGRAM)
    written = expected = 0
    for hypothesis, references in pairs:
        length = len(hypothesis)
        written += length
        expected += min((abs(len(r) - length), len(r)) for r in references)[1]
        for n in range(1, MAX_NGRAM + 1):
            most: _NgramCounts = Counter()
            for reference in references:
                most |= _ngrams(reference, n)
            correct[n - 1] += (_ngrams(hypothesis, n) & most).total()
            guessed[n - 1] += max(0, length - n + 1)
    precisions = (correct + _TINY) / (guessed + _SMALL)
    scores = np.cumprod(precisions) ** (1 / np.arange(1, MAX_NGRAM + 1))
    ratio = (written + _TINY) / (expected + _SMALL)
    if ratio < 1:
        scores = scores * math.exp(1 - 1 / ratio)
    one, two, three, four = scores.tolist()
    return one, two, three, four


def _rouge_l(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    """F score of the best precision and the best recall over the references."""
    if not hypothesis:
        return 0.0
    common = [(_common_subsequence(hypothesis, r), len(r)) for r in references]
    precision = max(length / len(hypothesis) for length, _ in common)
    recall = max((length / total if total else 0.0) for length, total in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def _common_subsequence(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


@dataclass(frozen=True, kw_only=True)
class _Vector:
    """TF-IDF weights of a caption's n-grams, for each n, with their norms."""

    weights: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    length: int


def _cider_d(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """CIDEr-D of each item, float64 (num_items,); document frequencies over the references."""
    frequency: Counter[tuple[str, ...]] = Counter()
    for item in references:
        frequency.update(
            {gram for r in item for n in range(MAX_NGRAM) for gram in _ngrams(r, n + 1)}
        )
    log_items = math.log(len(references))
    scores = []
    for hypothesis, item in zip(hypotheses, references, strict=True):
        written = _vector(hypothesis, frequency, log_items)
        similar = [_similarity(written, _vector(r, frequency, log_items)) for r in item]
        scores.append(10 * sum(similar) / len(item))
    return np.array(scores)


def _vector(tokens: Tokens, frequency: Counter[tuple[str, ...]], log_items: float) -> _Vector:
    weights = tuple(
        {
            gram: count * (log_items - math.log(max(1, frequency[gram])))
            for gram, count in _ngrams(tokens, n).items()
        }
        for n in range(1, MAX_NGRAM + 1)
    )
    norms = tuple(math.sqrt(sum(value**2 for value in part.values())) for part in weights)
    return _Vector(weights=weights, norms=norms, length=max(0, len(tokens) - 1))


def _similarity(written: _Vector, reference: _Vector) -> float:
    """Mean over n of the clipped cosine, times the Gaussian penalty of the lengths."""
    total = 0.0
    for n in range(MAX_NGRAM):
        mine, theirs = written.weights[n], reference.weights[n]
        value = sum(min(mine[gram], theirs[gram]) * theirs[gram] for gram in mine.keys() & theirs)
        norm = written.norms[n] * reference.norms[n]
        total += value / norm if norm else value
    penalty = math.exp(-((written.length - reference.length) ** 2) / (2 * CIDER_SIGMA**2))
    return total / MAX_NGRAM * penalty
