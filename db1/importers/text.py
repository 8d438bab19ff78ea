"""Plain text: how a corpus becomes tokenised documents.

corpus  --train BPE on the training part-->  tokenizer.json
        --tokenise, end of text after each document-->  train.{bin,idx,json}
                                                         heldout.{bin,idx,json}
        --what was done-->  text.json (see `text_folder.py`)
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from db1.errors import DataError
from db1.importers.corpora import corpus_digest, corpus_documents, source_name
from db1.importers.registry import (
    IMPORTERS,
    ImportContext,
    ImportKind,
    ImportSummary,
    Progress,
    no_progress,
    option,
)
from db1.importers.text_folder import (
    VERSION,
    TextFolderWriter,
    TextSummary,
    check_share,
    finished,
    partial_folder,
)
from db1.importers.tokenizing import BATCH, batches, tokenize
from db1.ranges import Checked, Range, Share
from db1.tokens.text import TextTokenizer

__all__ = ["TextSummary", "corpus_documents", "describe_text", "prepare_text"]

logger = logging.getLogger(__name__)

FORMAT = "db1-text"
MAX_LOST = 0.01
"""Share of a text's characters, blanks aside, that may be lost without a word of the user."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(Checked):
    """Options of `db1 import text`."""

    text_size: Annotated[int, Range(least=257, most=2**24)] = option(
        2_048, "Vocabulary size of the tokenizer to train."
    )
    tokenizer: Path | None = option(None, "Use this tokenizer instead (file or folder).")
    heldout_share: Annotated[float, Range(above=0, most=0.5)] = option(
        0.05, "Share of the documents held out for evaluation."
    )
    workers: Annotated[int, Range(least=1, most=4_096)] = option(
        1, "Processes that tokenise; the files do not depend on it."
    )
    max_lost: Share = option(
        MAX_LOST, "Largest share of the text that the tokenizer may have no ids for."
    )


def prepare_text(
    name_or_path: str | os.PathLike[str],
    out: Path,
    *,
    vocabulary_text_size: int,
    tokenizer: TextTokenizer | None = None,
    heldout_share: float = 0.05,
    num_workers: int = 1,
    max_lost: float = MAX_LOST,
    progress: Progress = no_progress,
) -> TextSummary:
    """Tokenises a corpus into training and held-out documents.

    Every k-th document is held out, k = round(1 / heldout_share), counted over the documents that
    are not empty. Those of which the tokenizer can write
    nothing are left out. A folder that was finished with the same settings and text is used again.

    Args:
        name_or_path: As for `corpus_documents`.
        out: Folder to write.
        vocabulary_text_size: Text ids of the vocabulary: what a BPE is trained to, or what
            `tokenizer` must fit.
        tokenizer: None trains a BPE on the training documents.
        heldout_share: Share of documents held out, in (0, 0.5].
        num_workers: Processes that tokenise; their number plays no part in what is written.
        max_lost: Largest share of the characters that the tokenizer may have no ids for.
        progress: Called with the numbers of documents tokenised and to tokenise.

    Raises:
        ConfigError: A share or size that cannot be used.
        DataError: A broken or too small corpus, a tokenizer that is too large or loses too much
            of the text, or a folder made with other settings.
    """
    every = check_share(heldout_share)
    out = Path(out)
    settings = _settings(name_or_path, vocabulary_text_size, tokenizer, heldout_share)
    summary = finished(out, settings)
    if summary is not None:
        logger.info("%s: already prepared with these settings", out)
        return summary
    corpus = _Corpus(name_or_path, every)
    num_texts, num_empty = corpus.count()
    if num_texts == 0:
        raise DataError(f"{source_name(name_or_path)}: no document holds any text; give another")
    with partial_folder(out) as partial:
        if tokenizer is None:
            tokenizer = TextTokenizer.train(corpus.training_documents(), vocabulary_text_size)
        loss = _find_loss(corpus, tokenizer, max_lost)
        with TextFolderWriter(partial, tokenizer, source_name(corpus.name), every) as writer:
            _write(corpus, writer, loss, num_workers, num_texts, progress)
            return writer.finish(
                num_empty,
                settings,
                num_unwritable=len(loss.unwritable),
                num_lost_characters=loss.num_characters,
            )


def _settings(
    name_or_path: str | os.PathLike[str],
    text_size: int,
    tokenizer: TextTokenizer | None,
    heldout_share: float,
) -> dict[str, Any]:
    """Settings that decide the files; raises DataError for a tokenizer that is too large."""
    if tokenizer is not None and tokenizer.size > text_size:
        raise DataError(
            f"the tokenizer has {tokenizer.size} ids, the vocabulary has room for {text_size}; "
            "set vocabulary.text_size"
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": source_name(name_or_path),
        "text_sha256": corpus_digest(name_or_path),
        "vocabulary_text_size": text_size,
        "tokenizer": None if tokenizer is None else tokenizer.fingerprint,
        "heldout_share": heldout_share,
    }


def describe_text(name: str, summary: TextSummary) -> str:
    """One line about a text folder."""
    return (
        f"text {name}: {summary.num_train_tokens:,} training and {summary.num_heldout_tokens:,} "
        f"held-out tokens of {summary.text_size:,} ids, from {summary.source}"
    )


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

    def count(self) -> tuple[int, int]:
        """Numbers of documents with text, and of those without any, which are left out."""
        empty = [not document.strip() for document in corpus_documents(self.name)]
        return len(empty) - sum(empty), sum(empty)


@dataclass(frozen=True, kw_only=True)
class _Loss:
    """Loss of a tokenizer on a corpus: text that it cannot write.

    Args:
        unwritable: Numbers of the documents of which nothing is left.
        num_characters: Characters lost in the others.
    """

    unwritable: frozenset[int] = frozenset()
    num_characters: int = 0


def _find_loss(corpus: _Corpus, tokenizer: TextTokenizer, max_lost: float) -> _Loss:
    """Reads the corpus once more where the tokenizer may have no ids for some of it.

    Raises:
        DataError: More is lost than may be.
    """
    if not tokenizer.may_lose_text:
        return _Loss()
    unwritable, num_lost, num_whole, total, number = set(), 0, 0, 0, 0
    for batch in batches(document for document, _ in corpus.documents()):
        for lost, document in zip(tokenizer.lost_characters(batch), batch, strict=True):
            length = sum(not character.isspace() for character in document)
            if lost == length:
                unwritable.add(number)
                num_whole += length
            else:
                num_lost += int(lost)
            total += length
            number += 1
    share = (num_lost + num_whole) / total
    if share > max_lost:
        raise DataError(
            f"{source_name(corpus.name)}: the tokenizer has no ids for {num_lost + num_whole:,} of "
            f"{total:,} characters ({100 * share:.1f} %), and {len(unwritable):,} of {number:,} "
            "documents lose everything; take a tokenizer that knows all bytes, or allow it "
            f"(--max-lost {math.ceil(share * 100) / 100:g})"
        )
    return _Loss(unwritable=frozenset(unwritable), num_characters=num_lost)


def _write(
    corpus: _Corpus,
    writer: TextFolderWriter,
    loss: _Loss,
    num_workers: int,
    num_texts: int,
    progress: Progress,
) -> None:
    """Tokenises the documents of a corpus."""
    end_of_text = np.int32(writer.tokenizer.end_of_text)
    texts, kept = itertools.tee(corpus.documents())
    all_ids = tokenize((document for document, _ in texts), writer.tokenizer, num_workers)
    for done, (ids, (document, is_heldout)) in enumerate(zip(all_ids, kept, strict=True), start=1):
        if done - 1 not in loss.unwritable:
            num_bytes = len(document.encode()) if is_heldout else 0
            writer.append(np.append(ids, end_of_text), is_heldout, num_bytes)
        if done % BATCH == 0 or done == num_texts:
            progress("documents", done, num_texts)


def import_text(
    source: str, out: Path, options: TextOptions, context: ImportContext
) -> ImportSummary:
    """Imports a corpus; see `prepare_text`."""
    summary = prepare_text(
        source,
        out,
        vocabulary_text_size=options.text_size,
        tokenizer=TextTokenizer.load(options.tokenizer) if options.tokenizer else None,
        heldout_share=options.heldout_share,
        num_workers=options.workers,
        max_lost=options.max_lost,
        progress=context.progress,
    )
    return text_import(summary, out)


def text_import(summary: TextSummary, out: Path, notes: tuple[str, ...] = ()) -> ImportSummary:
    """The summary of an import of text."""
    return ImportSummary(
        source=summary.source,
        out=out,
        unit="documents",
        num_stored=summary.num_train_documents + summary.num_heldout_documents,
        counts={
            "empty documents left out": summary.num_empty,
            "documents left out, of which the tokenizer can write nothing": summary.num_unwritable,
            "characters that the tokenizer has no ids for": summary.num_lost_characters,
        },
        notes=(describe_text(out.name, summary), *notes),
    )


IMPORTERS.register("text")(
    ImportKind(
        run=import_text,
        options=TextOptions,
        help="Plain text: a corpus becomes tokenised documents.",
        source_help="`kjv`, a .txt or .jsonl file, or a folder of them.",
        example="db1 import text my_corpus.jsonl --out data/my_corpus --text-size 8192 --workers 8",
    )
)
