"""Documents that another program tokenised into Megatron's indexed format -> a text folder.

`PREFIX.bin` and `PREFIX.idx` are read beside the tokenizer that made them. Every id must be one of
the tokenizer's; a document that does not end with the end of text gets it; a document of several
sequences becomes one. Every k-th document is held out, as for plain text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from db1.errors import ConfigError, DataError
from db1.files import resolved
from db1.importers.fingerprint import fingerprint
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.importers.text import text_import
from db1.importers.text_folder import (
    VERSION,
    TextFolderWriter,
    check_share,
    finished,
    partial_folder,
)
from db1.ranges import Checked, Range
from db1.store.documents import DocumentStore
from db1.tokens.text import TextTokenizer

FORMAT = "db1-text-megatron"
_REPORT_EVERY = 1_000


@dataclass(frozen=True, kw_only=True)
class MegatronOptions(Checked):
    """Options of `db1 import megatron`."""

    tokenizer: Path | None = option(
        None, "Tokenizer of the ids: tokenizer.json or its folder; required."
    )
    heldout_share: Annotated[float, Range(above=0, most=0.5)] = option(
        0.05, "Share of the documents held out for evaluation."
    )


def import_megatron(
    source: str, out: Path, options: MegatronOptions, context: ImportContext
) -> ImportSummary:
    """Imports one pair of .bin and .idx.

    Raises:
        ConfigError: Without a tokenizer, or a share that cannot be used.
        DataError: Broken files, an id that the tokenizer does not have, too few documents, or a
            folder made with other settings; nothing is kept then.
    """
    if options.tokenizer is None:
        raise ConfigError("import megatron: pass --tokenizer, the one that made the ids")
    every = check_share(options.heldout_share)
    prefix = Path(source).with_suffix("") if Path(source).suffix in (".bin", ".idx") else source
    tokenizer = TextTokenizer.load(options.tokenizer)
    store = DocumentStore(prefix)
    name = str(resolved(prefix))
    settings = {
        "format": FORMAT,
        "version": VERSION,
        "source": name,
        "fingerprint": fingerprint([Path(f"{prefix}.bin"), Path(f"{prefix}.idx")]),
        "tokenizer": tokenizer.fingerprint,
        "heldout_share": options.heldout_share,
    }
    summary = finished(out, settings)
    if summary is not None:
        return text_import(summary, out, ("already imported with these settings",))
    num_ended = 0
    num_documents = 0
    with (
        partial_folder(out) as partial,
        TextFolderWriter(partial, tokenizer, name, every) as writer,
    ):
        for ids, has_end in _documents(store, tokenizer, name):
            num_documents += 1
            num_ended += not has_end
            is_heldout = num_documents % every == 0
            text = tokenizer.decode(ids[:-1]) if is_heldout else ""
            writer.append(ids, is_heldout, len(text.encode()))
            if num_documents % _REPORT_EVERY == 0:
                context.progress("documents", num_documents, store.num_documents)
        summary = writer.finish(store.num_documents - num_documents, settings)
    notes = (f"end of text put after {num_ended:,} documents",) if num_ended else ()
    return text_import(summary, out, notes)


def _documents(
    store: DocumentStore, tokenizer: TextTokenizer, name: str
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields the ids of each document that is not empty, and whether it had its end of text."""
    for number in range(store.num_documents):
        ids = store.document(number)
        is_bad = (ids < 0) | (ids >= tokenizer.size)
        if is_bad.any():
            raise DataError(
                f"{name} document {number}: id {ids[is_bad][0]} at token "
                f"{int(np.flatnonzero(is_bad)[0])}, the tokenizer has {tokenizer.size}; give the "
                "tokenizer that made the ids"
            )
        has_end = len(ids) > 0 and int(ids[-1]) == tokenizer.end_of_text
        if len(ids) > has_end:
            yield ids if has_end else np.append(ids, np.int64(tokenizer.end_of_text)), has_end


IMPORTERS.register("megatron")(
    ImportKind(
        run=import_megatron,
        options=MegatronOptions,
        help="Documents in Megatron's indexed format (.bin and .idx) with their tokenizer.",
        source_help="The prefix, or its .bin or .idx file.",
        example="db1 import megatron corpus_text_document --tokenizer tokenizer.json "
        "--out data/corpus",
    )
)
