"""Documents -> ids, in this process or in several; the same ids in the same order either way.

    documents --batches--> worker processes --ids, in the order of the batches--> caller

At most `_AHEAD` batches a worker are on their way, so that memory does not grow with the corpus.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from db1.errors import ConfigError, DataError
from db1.tokens.text import TextTokenizer

BATCH = 256
_AHEAD = 4


def tokenize(
    documents: Iterable[str], tokenizer: TextTokenizer, num_workers: int = 1
) -> Iterator[np.ndarray]:
    """Yields the ids of each document in order, int32 (num_tokens,), without an end of text.

    Args:
        documents: Texts; read as they are needed.
        tokenizer: Text -> ids.
        num_workers: Processes; 1: this one, on the tokenizer's own threads.

    Raises:
        ConfigError: Fewer than one worker.
        DataError: A document that has no UTF-8, or a worker process died.
    """
    if num_workers < 1:
        raise ConfigError(f"workers: got {num_workers}, expected at least 1")
    if num_workers == 1:
        for batch in batches(documents):
            yield from tokenizer.encode_many(batch)
        return
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer.to_json(),),
    )
    try:
        yield from _in_order(pool, batches(documents), num_workers * _AHEAD)
    except BrokenProcessPool:
        raise DataError(
            "a process that tokenises text died (killed, or out of memory); use fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, batches: Iterator[list[str]], most: int
) -> Iterator[np.ndarray]:
    """Results of the batches in their order, with at most `most` of them on their way."""
    waiting: deque[Future[list[np.ndarray]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_encode, batch))
        if len(waiting) == most:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


class _Worker:
    """State of a worker process: its tokenizer, unpacked once."""

    tokenizer: TextTokenizer


def _start_worker(content: str) -> None:
    _Worker.tokenizer = TextTokenizer(content)


def _encode(texts: Sequence[str]) -> list[np.ndarray]:
    """One text after the other: the processes are the threads here."""
    return [_Worker.tokenizer.encode(text) for text in texts]


def batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Yields the documents in lists of `BATCH`."""
    batch: list[str] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
