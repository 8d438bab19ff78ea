"""The folder of one tokenised corpus, whatever it was made from.

    tokenizer.json               the tokenizer
    train.{bin,idx,json}         training documents, end of text after each
    heldout.{bin,idx,json}       held-out documents
    text.json                    settings and counts; written last: the folder is finished

The files are made in the subfolder `.partial` and moved when all are there. A run that is killed
leaves `.partial` behind; the next one clears it and starts again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from db1.errors import ConfigError, DataError
from db1.files import atomic_write_text
from db1.json_shape import parse_json_file
from db1.locks import try_lock
from db1.store.document_layout import token_dtype
from db1.store.document_writer import DocumentWriter
from db1.tokens.text import FILE_NAME as TOKENIZER_FILE
from db1.tokens.text import TextTokenizer

VERSION = 1
SUMMARY_FILE = "text.json"
_PARTIAL = ".partial"


@dataclass(frozen=True, kw_only=True)
class TextSummary:
    """Content of a text folder.

    Args:
        source: Corpus name, or an absolute path.
        tokenizer: Fingerprint of the tokenizer.
        text_size: Number of its ids.
        num_train_documents: Documents in train.bin.
        num_train_tokens: Ids in train.bin, end-of-text ids included.
        num_heldout_documents: Documents in heldout.bin.
        num_heldout_tokens: Ids in heldout.bin, end-of-text ids included.
        num_heldout_bytes: UTF-8 bytes of the held-out documents (for bits a byte).
        num_empty: Documents without anything but white space, left out.
        num_unwritable: Documents of which the tokenizer can write nothing, left out.
        num_lost_characters: Characters of the others that it has no ids for.
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
    num_unwritable: int = 0
    num_lost_characters: int = 0


def check_share(heldout_share: float) -> int:
    """k of "every k-th document is held out"; ConfigError for a share outside (0, 0.5]."""
    if not 0 < heldout_share <= 0.5:
        raise ConfigError(f"heldout_share: got {heldout_share}, expected in (0, 0.5]")
    return round(1 / heldout_share)


def finished(out: Path, settings: Mapping[str, Any]) -> TextSummary | None:
    """Returns the summary of a folder finished with these settings; None when not finished.

    Raises:
        DataError: It was made with other settings, or its text.json is broken.
    """
    file = out / SUMMARY_FILE
    if not file.exists():
        return None
    try:
        content = parse_json_file(file)
        summary = TextSummary(**content["summary"])
        found = content["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: unreadable ({error!r}); remove the folder {out}") from None
    for key in [*settings, *(key for key in found if key not in settings)]:
        if found.get(key) != settings.get(key):
            raise DataError(
                f"{out}: prepared with {key} {found.get(key)!r}, now {settings.get(key)!r}; write "
                "to another folder or remove this one"
            )
    return summary


class TextFolderWriter:
    """Writes the documents of a text folder.

    Args:
        folder: Empty folder.
        tokenizer: Of the documents; saved beside them.
        source: Of the summary.
        every: Every k-th document is held out.
    """

    def __init__(self, folder: Path, tokenizer: TextTokenizer, source: str, every: int) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.every = every
        self._source = source
        self._num_heldout_bytes = 0
        tokenizer.save(folder / TOKENIZER_FILE)
        self._train, self._heldout = (
            DocumentWriter(
                folder / part,
                token_dtype(tokenizer.size),
                tokenizer=tokenizer.fingerprint,
                text_size=tokenizer.size,
                source=source,
            )
            for part in ("train", "heldout")
        )

    def append(self, ids: Any, is_heldout: bool, num_bytes: int) -> None:
        """Adds a document: its ids with the end of text, and its UTF-8 bytes."""
        (self._heldout if is_heldout else self._train).append(ids)
        self._num_heldout_bytes += num_bytes if is_heldout else 0

    def finish(
        self,
        num_empty: int,
        settings: Mapping[str, Any],
        *,
        num_unwritable: int = 0,
        num_lost_characters: int = 0,
    ) -> TextSummary:
        """Closes the files and writes text.json; the numbers go to the summary.

        Raises:
            DataError: Training or held-out part is empty.
        """
        train, heldout = self._train, self._heldout
        if 0 in (train.num_documents, heldout.num_documents):
            raise DataError(
                f"{self._source}: {train.num_documents + heldout.num_documents} documents, every "
                f"{self.every}th is held out, which leaves a part empty; give more documents or a "
                "larger heldout_share"
            )
        train.close()
        heldout.close()
        summary = TextSummary(
            source=self._source,
            tokenizer=self.tokenizer.fingerprint,
            text_size=self.tokenizer.size,
            num_train_documents=train.num_documents,
            num_train_tokens=train.num_tokens,
            num_heldout_documents=heldout.num_documents,
            num_heldout_tokens=heldout.num_tokens,
            num_heldout_bytes=self._num_heldout_bytes,
            num_empty=num_empty,
            num_unwritable=num_unwritable,
            num_lost_characters=num_lost_characters,
        )
        content = {"settings": settings, "summary": asdict(summary)}
        atomic_write_text(self.folder / SUMMARY_FILE, json.dumps(content, indent=2) + "\n")
        return summary

    def __enter__(self) -> TextFolderWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._train.discard()
        self._heldout.discard()


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A fresh subfolder; what it holds is moved into `out` when the block ends without an error.

    Raises:
        DataError: The disk is full, or another process writes this folder.
    """
    partial = out / _PARTIAL
    try:
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
        try:
            if not try_lock(lock, out):
                raise DataError(f"{out}: another process writes this folder; wait until it ends")
            for left in partial.iterdir():
                left.unlink()
            try:
                yield partial
                names = sorted(f.name for f in partial.iterdir() if f.name != SUMMARY_FILE)
                for name in [*names, SUMMARY_FILE]:
                    os.replace(partial / name, out / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(lock)
    except OSError as error:
        raise DataError(f"{out}: cannot write the tokenised text: {error}") from error
