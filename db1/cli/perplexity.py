"""The verb `db1 perplexity`: how well a run predicts a text, with memories of several lengths."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from db1.cli.console import Console
from db1.cli.model_argument import Run, Weights
from db1.cli.options import from_dataclasses
from db1.cli.progress import task_bars
from db1.errors import ConfigError, DataError
from db1.importers.corpora import corpus_documents
from db1.inference.load import LoadedRun
from db1.metrics.perplexity import read_tokens, unigram_losses
from db1.metrics.perplexity_by_memory import (
    MemoryProtocol,
    documents_as_tokens,
    score_by_memory,
)
from db1.options import option
from db1.ranges import Checked, Count, Natural, Range
from db1.store.documents import DocumentStore

_TEXT, _HOW = "Text", "How it is scored"


@dataclass(frozen=True, kw_only=True)
class TextScoring(Checked):
    """Options of the verb: a text, and how it is scored."""

    text: str | None = option(
        None,
        "`kjv`, a .txt or .jsonl file, or a folder of them; default: the held-out part of the "
        "run's own corpora.",
        panel=_TEXT,
    )
    corpus: str | None = option(None, "Only this corpus of the run.", panel=_TEXT)
    data: Path | None = option(None, "Folder of the run's data; default: as trained.", panel=_TEXT)
    max_tokens: Annotated[int, Range(least=2)] | None = option(
        None, "Score only this many tokens, from the start.", panel=_TEXT
    )
    target_length: Count | None = option(
        None, "Tokens scored at once; default: a training sequence.", panel=_HOW
    )
    memory_length: list[Natural] | None = option(
        None,
        "Tokens they can look back on, longer than in training if you like (repeatable); default: "
        "none, the trained one, and four times that.",
        panel=_HOW,
    )
    sliding_window: bool = option(
        False,
        "Read the tokens looked back on again for every target, without a memory.",
        panel=_HOW,
    )
    batch_size: Count = option(
        1, "Parts of the text scored side by side; each starts with an empty memory.", panel=_HOW
    )
    as_json: bool = option(False, "Print one JSON object.", name="json")

    def protocol(self, loaded: LoadedRun) -> MemoryProtocol:
        """The scoring, with what was left open taken from the run."""
        trained = loaded.model_config.memory_length
        lengths = self.memory_length or dict.fromkeys([0, trained, 4 * trained])
        return MemoryProtocol(
            target_length=self.target_length or loaded.sequence_length,
            memory_lengths=tuple(lengths),
            sliding_window=self.sliding_window,
            batch_size=self.batch_size,
        )


@from_dataclasses
def perplexity(run: Run, wanted: TextScoring, weights: Weights) -> None:
    """Perplexity and bits per byte of held-out text, as Transformer-XL is evaluated.

    Every row scores the same tokens. `--sliding-window --target-length 1` is how a model without a
    memory is evaluated, a window a token.

    Example: db1 perplexity runs/db1_tiny

    Example: db1 perplexity runs/db1_tiny --text book.txt --memory-length 0 --memory-length 1280

    Example: db1 perplexity runs/db1_tiny --sliding-window --target-length 16 --max-tokens 4000
    """
    if wanted.text is not None and (wanted.corpus is not None or wanted.data is not None):
        raise ConfigError("--text names another text; leave out --corpus and --data")
    loaded = weights.load(run)
    protocol = wanted.protocol(loaded)
    if wanted.text is not None:
        texts = {wanted.text: _foreign_text(loaded, wanted.text, wanted.max_tokens)}
    else:
        texts = _own_texts(loaded, wanted)
    entries = {}
    with task_bars(Console(stderr=True)) as progress:
        for name, (tokens, unigram_loss) in texts.items():
            scores = score_by_memory(loaded, tokens, protocol, unigram_loss, progress)
            entries[name] = [score.to_dict() for score in scores]
    if wanted.as_json:
        said = {
            "target_length": protocol.target_length,
            "sliding_window": protocol.sliding_window,
        }
        typer.echo(json.dumps(said | {"texts": entries}, indent=1))
        return
    _print_tables(entries, protocol)


Text = tuple[np.ndarray, float | None]
"""Tokenizer ids, and their summed loss under the training text's unigram distribution."""


def _foreign_text(loaded: LoadedRun, text: str, max_tokens: int | None) -> Text:
    documents = list(corpus_documents(text))
    kept = [document for document in documents if document.strip()]
    if len(kept) < len(documents):
        typer.echo(f"{text}: {len(documents) - len(kept)} empty document(s) left out", err=True)
    return documents_as_tokens(loaded, kept)[:max_tokens], None


def _own_texts(loaded: LoadedRun, wanted: TextScoring) -> dict[str, Text]:
    section: dict[str, Any] = loaded.config.get("data") or {}
    names = list(section.get("text") or {})
    if loaded.tokenizer is None or not names:
        raise DataError(f"{loaded.folder}: this run learned no text; give one with --text")
    if wanted.corpus is not None and wanted.corpus not in names:
        raise ConfigError(f"corpus {wanted.corpus!r}: the run learned {', '.join(names)}")
    texts = {}
    for name in names if wanted.corpus is None else [wanted.corpus]:
        folder = (wanted.data or Path(section["root"])) / "text" / name
        heldout, train = (
            DocumentStore(folder / part, tokenizer_fingerprint=loaded.tokenizer.fingerprint)
            for part in ("heldout", "train")
        )
        tokens = read_tokens(heldout, wanted.max_tokens)
        losses = unigram_losses(train, tokens[1:], loaded.tokenizer.size)
        texts[name] = (tokens, float(losses.sum()))
    return texts


def _print_tables(entries: dict[str, list[dict[str, Any]]], protocol: MemoryProtocol) -> None:
    for name, rows in entries.items():
        num_tokens = rows[0]["num_tokens"]
        kind = "window" if protocol.sliding_window else "memory"
        table = Table(title=f"{name}: {num_tokens:,} tokens, {protocol.target_length} at once")
        titles = (kind, "perplexity", "bits per byte", "of unigram", "tokens a second")
        for title in titles:
            table.add_column(title, justify="right")
        for row in rows:
            ratio = f"{row['ratio']:.3f}" if "ratio" in row else "-"
            table.add_row(
                f"{row['memory_length']:,}",
                f"{row['perplexity']:.2f}",
                f"{row['bits_per_byte']:.4f}",
                ratio,
                f"{row['tokens_per_second']:,.0f}",
            )
        Console().print(table)


VERBS = {"perplexity": perplexity}
