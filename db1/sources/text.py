"""Plain text: how a corpus becomes tokenised documents.

corpus  --train BPE on the training part-->  tokenizer.json
        --tokenise, end of text behind each document-->  train.{bin,idx,json}
                                                         heldout.{bin,idx,json}
        --what was done-->  text.json (written last: the folder is finished)
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError
from db1.sources.corpora import corpus_digest, corpus_documents, source_name
from db1.store.documents import DocumentWriter, token_dtype
from db1.tokens.text import FILE_NAME as TOKENIZER_FILE
from db1.tokens.text import TextTokenizer

__all__ = ["TextSummary", "corpus_documents", "prepare_text"]

logger = logging.getLogger(__name__)

FORMAT = "db1-text"
VERSION = 1
SUMMARY_FILE = "text.json"
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class TextSummary:
    """What `prepare_text` made.

    Args:
        source: Corpus name, or the absolute path.
        tokenizer: Fingerprint of the tokenizer.
        text_size: Number of its ids.
        num_train_documents: Documents in train.bin.
        num_train_tokens: Ids in train.bin, end-of-text ids included.
        num_heldout_documents: Documents in heldout.bin.
        num_heldout_tokens: Ids in heldout.bin, end-of-text ids included.
        num_heldout_bytes: UTF-8 bytes of the held-out documents (for bits a byte).
        num_empty: Documents without anything but white space, left out.
    """

    source: str
    tokenizer: str
    text_size: int
    num_train_documents: int
    num_train_tokens: int
    num_heldout_documents: int
    num_heldout_tokens: int
    num_heldout_bytes: int
    num_empty: int


def prepare_text(
    name_or_path: str | os.PathLike[str],
    out: Path,
    *,
    vocabulary_text_size: int,
    tokenizer: TextTokenizer | None = None,
    heldout_share: float = 0.05,
) -> TextSummary:
    """Tokenises a corpus into training and held-out documents.

    Every k-th document is held out, k = round(1 / heldout_share), counted over the documents that
    are not empty. A folder that was finished with the same settings and text is used again.

    Args:
        name_or_path: As for `corpus_documents`.
        out: Folder to write.
        vocabulary_text_size: Text ids of the vocabulary: what a BPE is trained to, or what
            `tokenizer` must fit.
        tokenizer: None trains a BPE on the training documents.
        heldout_share: Share of documents held out, in (0, 0.5].

    Raises:
        ConfigError: A share or size that cannot be used.
        DataError: A broken or too small corpus, a tokenizer that is too large, or a folder made
            with other settings.
    """
    if not 0 < heldout_share <= 0.5:
        raise ConfigError(f"heldout_share: got {heldout_share}, expected in (0, 0.5]")
    if tokenizer is not None and tokenizer.size > vocabulary_text_size:
        raise DataError(
            f"the tokenizer has {tokenizer.size} ids, the vocabulary has room for "
            f"{vocabulary_text_size}; set vocabulary.text_size"
        )
    out = Path(out)
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "source": source_name(name_or_path),
        "text_sha256": corpus_digest(name_or_path),
        "vocabulary_text_size": vocabulary_text_size,
        "tokenizer": None if tokenizer is None else tokenizer.fingerprint,
        "heldout_share": heldout_share,
    }
    finished = _finished(out, settings)
    if finished is not None:
        logger.info("%s: already prepared with these settings", out)
        return finished
    corpus = _Corpus(name_or_path, round(1 / heldout_share))
    if next(corpus.training_documents(), None) is None:
        raise DataError(f"{source_name(name_or_path)}: no document holds any text; give another")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as partial:
            summary = _write(corpus, Path(partial), vocabulary_text_size, tokenizer)
            content = {"settings": settings, "summary": asdict(summary)}
            (Path(partial) / SUMMARY_FILE).write_text(json.dumps(content, indent=2) + "\n")
            _move(Path(partial), out)
    except OSError as error:
        raise DataError(f"{out}: cannot write the tokenised text: {error}") from error
    return summary


@dataclass(frozen=True)
class _Corpus:
    """The documents of a corpus in two parts; can be read again and again."""

    name: str | os.PathLike[str]
    every: int

    def documents(self) -> Iterator[tuple[str, bool]]:
        """Yields each document that is not empty, and whether it is held out."""
        index = 0
        for document in corpus_documents(self.name):
            if document.strip():
                index += 1
                yield document, index % self.every == 0

    def training_documents(self) -> Iterator[str]:
        """Yields the documents that are not held out."""
        return (document for document, is_heldout in self.documents() if not is_heldout)

    def num_empty(self) -> int:
        """Number of documents left out."""
        return sum(not document.strip() for document in corpus_documents(self.name))


def _write(
    corpus: _Corpus, out: Path, text_size: int, tokenizer: TextTokenizer | None
) -> TextSummary:
    """Writes tokenizer, training and held-out documents into the empty folder `out`."""
    if tokenizer is None:
        tokenizer = TextTokenizer.train(corpus.training_documents(), text_size)
    tokenizer.save(out / TOKENIZER_FILE)
    source = source_name(corpus.name)
    writers = {
        is_heldout: DocumentWriter(
            out / part,
            token_dtype(tokenizer.size),
            tokenizer=tokenizer.fingerprint,
            text_size=tokenizer.size,
            source=source,
        )
        for is_heldout, part in ((False, "train"), (True, "heldout"))
    }
    num_heldout_bytes = 0
    with writers[False], writers[True]:
        for batch in _batches(corpus.documents()):
            all_ids = tokenizer.encode_many([document for document, _ in batch])
            for (document, is_heldout), ids in zip(batch, all_ids, strict=True):
                writers[is_heldout].append(np.append(ids, np.int32(tokenizer.end_of_text)))
                num_heldout_bytes += len(document.encode()) if is_heldout else 0
        if 0 in (writers[False].num_documents, writers[True].num_documents):
            count = writers[False].num_documents + writers[True].num_documents
            raise DataError(
                f"{source}: {count} documents, every {corpus.every}th is held out, which leaves a "
                "part empty; give more documents or a larger heldout_share"
            )
    return TextSummary(
        source=source,
        tokenizer=tokenizer.fingerprint,
        text_size=tokenizer.size,
        num_train_documents=writers[False].num_documents,
        num_train_tokens=writers[False].num_tokens,
        num_heldout_documents=writers[True].num_documents,
        num_heldout_tokens=writers[True].num_tokens,
        num_heldout_bytes=num_heldout_bytes,
        num_empty=corpus.num_empty(),
    )


def _finished(out: Path, settings: dict[str, Any]) -> TextSummary | None:
    """Returns the summary of a folder finished with these settings; None when not finished."""
    file = out / SUMMARY_FILE
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        summary = TextSummary(**content["summary"])
        found = content["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: unreadable ({error!r}); remove the folder {out}") from None
    for key, value in settings.items():
        if found.get(key) != value:
            raise DataError(
                f"{out}: prepared with {key} {found.get(key)!r}, now {value!r}; write to another "
                "folder or remove this one"
            )
    return summary


def _move(partial: Path, out: Path) -> None:
    """Moves finished files into place, the summary last."""
    names = sorted(file.name for file in partial.iterdir() if file.name != SUMMARY_FILE)
    for name in [*names, SUMMARY_FILE]:
        os.replace(partial / name, out / name)


def _batches(items: Iterable[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    batch: list[tuple[str, bool]] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
