"""Plain text: how a corpus becomes tokenised documents.

corpus  --train BPE on the training part-->  tokenizer.json
        --tokenise, end of text behind each document-->  train.{bin,idx,json}
                                                         heldout.{bin,idx,json}
        --what was done-->  text.json (see `text_folder.py`)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.sources.corpora import corpus_digest, corpus_documents, source_name
from db1.sources.registry import (
    IMPORTERS,
    ImportContext,
    ImportKind,
    ImportSummary,
    Progress,
    no_progress,
    option,
)
from db1.sources.text_folder import (
    VERSION,
    TextFolderWriter,
    TextSummary,
    check_share,
    finished,
    partial_folder,
)
from db1.tokens.text import TextTokenizer

__all__ = ["TextSummary", "corpus_documents", "describe_text", "prepare_text"]

logger = logging.getLogger(__name__)

FORMAT = "db1-text"
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of `db1 import text`."""

    text_size: int = option(2_048, "Ids of the tokenizer to train.", minimum=257)
    tokenizer: Path | None = option(  # noqa: RUF009  (a field)
        None, "Use this tokenizer instead (file or folder)."
    )
    heldout_share: float = option(0.05, "Share of the documents held out for evaluation.")


def prepare_text(
    name_or_path: str | os.PathLike[str],
    out: Path,
    *,
    vocabulary_text_size: int,
    tokenizer: TextTokenizer | None = None,
    heldout_share: float = 0.05,
    progress: Progress = no_progress,
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
        progress: Called with the number of documents tokenised.

    Raises:
        ConfigError: A share or size that cannot be used.
        DataError: A broken or too small corpus, a tokenizer that is too large, or a folder made
            with other settings.
    """
    every = check_share(heldout_share)
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
    summary = finished(out, settings)
    if summary is not None:
        logger.info("%s: already prepared with these settings", out)
        return summary
    corpus = _Corpus(name_or_path, every)
    if next(corpus.training_documents(), None) is None:
        raise DataError(f"{source_name(name_or_path)}: no document holds any text; give another")
    with partial_folder(out) as partial:
        if tokenizer is None:
            tokenizer = TextTokenizer.train(corpus.training_documents(), vocabulary_text_size)
        with TextFolderWriter(partial, tokenizer, source_name(corpus.name), every) as writer:
            _write(corpus, writer, progress)
            return writer.finish(corpus.num_empty(), settings)


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

    def num_empty(self) -> int:
        """Number of documents left out."""
        return sum(not document.strip() for document in corpus_documents(self.name))


def _write(corpus: _Corpus, writer: TextFolderWriter, progress: Progress) -> None:
    """Tokenises the documents of a corpus."""
    tokenizer = writer.tokenizer
    num_documents = 0
    for batch in _batches(corpus.documents()):
        all_ids = tokenizer.encode_many([document for document, _ in batch])
        for (document, is_heldout), ids in zip(batch, all_ids, strict=True):
            ids = np.append(ids, np.int32(tokenizer.end_of_text))
            writer.append(ids, is_heldout, len(document.encode()) if is_heldout else 0)
        num_documents += len(batch)
        progress("documents", num_documents, None)


def _batches(items: Iterable[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    batch: list[tuple[str, bool]] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


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
        counts={"empty documents left out": summary.num_empty},
        notes=(describe_text(out.name, summary), *notes),
    )


IMPORTERS.register("text")(
    ImportKind(
        run=import_text,
        options=TextOptions,
        help="Plain text: a corpus becomes tokenised documents.",
        source_help="`kjv`, a .txt or .jsonl file, or a folder of them.",
        example="db1 import text my_corpus.jsonl --out data/my_corpus --text-size 8192",
    )
)
