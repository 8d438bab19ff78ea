"""Perplexity on held-out text, beside what counting words alone would reach."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.errors import CheckpointError
from db1.inference.likelihood import text_losses
from db1.inference.load import LoadedRun
from db1.store.documents import DocumentStore
from db1.tokens.text import TextTokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """Sums over the predicted tokens of a text (all but its first).

    Args:
        num_tokens: Predicted tokens.
        num_bytes: Their UTF-8 bytes.
        loss: Negative log-likelihood under the model, nats.
        unigram_loss: The same under the unigram distribution of the training text; None where
            that text is not known.
    """

    num_tokens: int
    num_bytes: int
    loss: float
    unigram_loss: float | None = None

    def to_dict(self) -> dict[str, float | int]:
        """The entry of results.json: perplexity, unigram_perplexity, ratio, bits_per_byte.

        Unigram perplexity and the ratio to it are left out where they are not known.
        """
        perplexity = _exp(self.loss / self.num_tokens)
        entry: dict[str, float | int] = {"perplexity": perplexity}
        if self.unigram_loss is not None:
            unigram = _exp(self.unigram_loss / self.num_tokens)
            entry |= {"unigram_perplexity": unigram, "ratio": perplexity / unigram}
        entry["bits_per_byte"] = self.loss / math.log(2) / self.num_bytes
        entry["num_tokens"] = self.num_tokens
        return entry


def _exp(loss: float) -> float:
    """Perplexity of a mean loss; of a hopeless model the largest number that JSON has."""
    return math.exp(min(loss, 700.0))


def read_tokens(store: DocumentStore, limit: int | None = None) -> np.ndarray:
    """All documents end to end, int64 (n,); with a limit the first n tokens only."""
    parts, total = [], 0
    for document in range(store.num_documents):
        if limit is not None and total >= limit:
            break
        parts.append(np.asarray(store.document(document), dtype=np.int64))
        total += len(parts[-1])
    tokens = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return tokens[:limit]


def unigram_losses(train: DocumentStore, tokens: np.ndarray, text_size: int) -> np.ndarray:
    """-ln of each token's add-one smoothed frequency in the training text, float64 (n,).

    p(t) = (count of t + 1) / (training tokens + text_size)
    """
    counts = np.zeros(text_size, dtype=np.int64)
    for document in range(train.num_documents):
        counts += np.bincount(train.document(document), minlength=text_size)
    log_p = np.log(counts + 1.0) - math.log(counts.sum() + text_size)
    return -log_p[tokens]


def unigram_perplexity(train: DocumentStore, heldout: DocumentStore, text_size: int) -> float:
    """Perplexity of the held-out tokens (all but the first) under the training frequencies."""
    tokens = read_tokens(heldout)[1:]
    return float(np.exp(unigram_losses(train, tokens, text_size).mean()))


def score_text(
    run: LoadedRun,
    tokenizer: TextTokenizer,
    train: Path,
    heldout: Path,
    *,
    window: int,
    memory_length: int,
    max_tokens: int | None = None,
) -> TextScore:
    """Scores one corpus.

    Args:
        run: Model and id ranges.
        tokenizer: The tokenizer that both stores were made with.
        train: Prefix of the training documents.
        heldout: Prefix of the held-out documents.
        window: Tokens of a window.
        memory_length: Tokens carried between windows.
        max_tokens: Score the first ones only; None: all.
    """
    fingerprint = tokenizer.fingerprint
    tokens = read_tokens(DocumentStore(heldout, tokenizer_fingerprint=fingerprint), max_tokens)
    losses = text_losses(
        run.model, run.vocabulary, tokens, target_length=window, memory_length=memory_length
    )
    if not np.isfinite(losses).all():
        raise CheckpointError(
            f"{run.folder}: the model's losses on {heldout} are not numbers; the weights of "
            f"{run.tag or 'the model'} are broken, take another --checkpoint or train again"
        )
    train_store = DocumentStore(train, tokenizer_fingerprint=fingerprint)
    unigram = unigram_losses(train_store, tokens[1:], tokenizer.size)
    return TextScore(
        num_tokens=len(losses),
        num_bytes=_num_bytes(tokenizer, tokens[1:]),
        loss=float(losses.sum()),
        unigram_loss=float(unigram.sum()),
    )


def pool(scores: Mapping[str, TextScore]) -> TextScore:
    """One score over all corpora, weighted by tokens."""
    return TextScore(
        num_tokens=sum(score.num_tokens for score in scores.values()),
        num_bytes=sum(score.num_bytes for score in scores.values()),
        loss=sum(score.loss for score in scores.values()),
        unigram_loss=_sum_known([score.unigram_loss for score in scores.values()]),
    )


def _num_bytes(tokenizer: TextTokenizer, tokens: np.ndarray) -> int:
    return len(tokenizer.decode(tokens).encode("utf-8"))


def _sum_known(losses: Sequence[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    known = [loss for loss in losses if loss is not None]
    return sum(known) if len(known) == len(losses) else None
