"""One text, scored with memories of several lengths: the same tokens every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError
from db1.inference.likelihood import sliding_losses, text_losses
from db1.inference.load import LoadedRun
from db1.metrics.perplexity import TextScore

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class MemoryProtocol:
    """Protocol for scoring a text.

    Args:
        target_length: Tokens scored at once.
        memory_lengths: Tokens that they can look back on, one score each.
        sliding_window: Read the tokens looked back on again instead of remembering them.
        batch_size: Stretches of the text side by side (windows at once, when sliding).

    Raises:
        ConfigError: A length or number that cannot be used.
    """

    target_length: int
    memory_lengths: tuple[int, ...]
    sliding_window: bool = False
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name, least in (("target_length", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least {least}")
        if not self.memory_lengths or min(self.memory_lengths) < 0:
            raise ConfigError(
                f"memory_length: got {list(self.memory_lengths)}, expected numbers of at least 0"
            )


@dataclass(frozen=True, kw_only=True)
class MemoryScore:
    """A text's score with one memory.

    Args:
        memory_length: Tokens looked back on.
        text: Sums over the predicted tokens.
        seconds: What scoring took.
    """

    memory_length: int
    text: TextScore
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Perplexity, bits per byte and what else `TextScore` has, with memory and speed."""
        speed = self.text.num_tokens / self.seconds
        return {
            "memory_length": self.memory_length,
            **self.text.to_dict(),
            "seconds": self.seconds,
            "tokens_per_second": speed,
        }


def score_by_memory(
    run: LoadedRun,
    tokens: np.ndarray,
    protocol: MemoryProtocol,
    unigram_loss: float | None = None,
    progress: Progress | None = None,
) -> list[MemoryScore]:
    """Scores a text once for each memory length.

    Args:
        run: Model, id ranges and tokenizer.
        tokens: Tokenizer ids, integer (n,), at least 2.
        protocol: How.
        unigram_loss: Summed loss of tokens[1:] under the unigram distribution; None: unknown.
        progress: Called with (what, scores done, scores in all).

    Raises:
        DataError: Fewer than 2 tokens, or a run without a tokenizer.
    """
    if run.tokenizer is None:
        raise DataError(f"{run.folder}: this run learned no text")
    losses_of = sliding_losses if protocol.sliding_window else text_losses
    num_bytes = len(run.tokenizer.decode(tokens[1:]).encode("utf-8"))
    scores = []
    for number, length in enumerate(protocol.memory_lengths):
        started = time.perf_counter()
        losses = losses_of(
            run.model,
            run.vocabulary,
            tokens,
            target_length=protocol.target_length,
            memory_length=length,
            batch_size=protocol.batch_size,
        )
        text = TextScore(
            num_tokens=len(losses),
            num_bytes=num_bytes,
            loss=float(losses.sum()),
            unigram_loss=unigram_loss,
        )
        seconds = time.perf_counter() - started
        scores.append(MemoryScore(memory_length=length, text=text, seconds=seconds))
        if progress is not None:
            progress(f"memory {length}", number + 1, len(protocol.memory_lengths))
    return scores


def documents_as_tokens(run: LoadedRun, documents: Sequence[str]) -> np.ndarray:
    """Documents end to end with an end of text after each, tokenizer ids int64 (n,).

    Raises:
        DataError: No document, or a run without a tokenizer.
    """
    if run.tokenizer is None:
        raise DataError(f"{run.folder}: this run learned no text")
    if not documents:
        raise DataError("no document holds any text; nothing to score")
    end = np.array([run.tokenizer.end_of_text])
    parts = [part for ids in run.tokenizer.encode_many(documents) for part in (ids, end)]
    return np.concatenate(parts).astype(np.int64)
