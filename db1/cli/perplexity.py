"""The verb `db1 perplexity`: how well a run predicts a text, with memories of several lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from db1.cli.console import Console
from db1.cli.device import checked_device
from db1.cli.model_argument import Run
from db1.cli.progress import task_bars
from db1.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from db1.inference.load import LoadedRun

_TEXT, _HOW = "Text", "How it is scored"


def perplexity(
    run: Run,
    text: Annotated[
        str | None,
        typer.Option(
            help="`kjv`, a .txt or .jsonl file, or a folder of them; default: the held-out part "
            "of the run's own corpora.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Only this corpus of the run.", rich_help_panel=_TEXT)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the run's data; default: as trained.", rich_help_panel=_TEXT),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Score the first ones only.", min=2, rich_help_panel=_TEXT),
    ] = None,
    target_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens scored at once; default: a training sequence.",
            min=1,
            rich_help_panel=_HOW,
        ),
    ] = None,
    memory_length: Annotated[
        list[int] | None,
        typer.Option(
            help="Tokens they can look back on, longer than in training if you like (repeatable); "
            "default: none, the trained one, and four times that.",
            min=0,
            rich_help_panel=_HOW,
        ),
    ] = None,
    sliding_window: Annotated[
        bool,
        typer.Option(
            "--sliding-window",
            help="Read the tokens looked back on anew for every target, without a memory.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Stretches of the text side by side; each starts with an empty memory.",
            min=1,
            rich_help_panel=_HOW,
        ),
    ] = 1,
    checkpoint: Annotated[str | None, typer.Option(help="Tag; default: the newest.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Perplexity and bits per byte of held-out text, as Transformer-XL is evaluated.

    Every row scores the same tokens. `--sliding-window --target-length 1` is how a model without a
    memory is evaluated, a window a token.

    Example: db1 perplexity runs/db1_tiny

    Example: db1 perplexity runs/db1_tiny --text book.txt --memory-length 0 --memory-length 1280

    Example: db1 perplexity runs/db1_tiny --sliding-window --target-length 16 --max-tokens 4000
    """
    from db1.inference.load import load_agent_parts
    from db1.metrics.perplexity_by_memory import MemoryProtocol, score_by_memory

    if text is not None and (corpus is not None or data is not None):
        raise ConfigError("--text names another text; leave out --corpus and --data")
    loaded = load_agent_parts(run, checkpoint, device=checked_device(device))
    trained = loaded.model_config.memory_length
    protocol = MemoryProtocol(
        target_length=target_length or loaded.sequence_length,
        memory_lengths=tuple(memory_length or dict.fromkeys([0, trained, 4 * trained])),
        sliding_window=sliding_window,
        batch_size=batch_size,
    )
    if text is not None:
        texts = {text: _foreign_text(loaded, text, max_tokens)}
    else:
        texts = _own_texts(loaded, corpus, data, max_tokens)
    entries = {}
    with task_bars(Console(stderr=True)) as progress:
        for name, (tokens, unigram_loss) in texts.items():
            scores = score_by_memory(loaded, tokens, protocol, unigram_loss, progress)
            entries[name] = [score.to_dict() for score in scores]
    _show(entries, protocol.target_length, sliding_window, as_json)


Text = tuple["np.ndarray", "float | None"]
"""Tokenizer ids, and their summed loss under the training text's unigram distribution."""


def _foreign_text(loaded: LoadedRun, text: str, max_tokens: int | None) -> Text:
    from db1.importers.corpora import corpus_documents
    from db1.metrics.perplexity_by_memory import documents_as_tokens

    documents = list(corpus_documents(text))
    kept = [document for document in documents if document.strip()]
    if len(kept) < len(documents):
        typer.echo(f"{text}: {len(documents) - len(kept)} empty document(s) left out", err=True)
    return documents_as_tokens(loaded, kept)[:max_tokens], None


def _own_texts(
    loaded: LoadedRun, corpus: str | None, data: Path | None, max_tokens: int | None
) -> dict[str, Text]:
    from db1.metrics.perplexity import read_tokens, unigram_losses
    from db1.store.documents import DocumentStore

    section: dict[str, Any] = loaded.config.get("data") or {}
    names = list(section.get("text") or {})
    if loaded.tokenizer is None or not names:
        raise DataError(f"{loaded.folder}: this run learned no text; give one with --text")
    if corpus is not None and corpus not in names:
        raise ConfigError(f"corpus {corpus!r}: the run learned {', '.join(names)}")
    texts = {}
    for name in names if corpus is None else [corpus]:
        folder = (data or Path(section["root"])) / "text" / name
        heldout, train = (
            DocumentStore(folder / part, tokenizer_fingerprint=loaded.tokenizer.fingerprint)
            for part in ("heldout", "train")
        )
        tokens = read_tokens(heldout, max_tokens)
        losses = unigram_losses(train, tokens[1:], loaded.tokenizer.size)
        texts[name] = (tokens, float(losses.sum()))
    return texts


def _show(
    entries: dict[str, list[dict[str, Any]]], target_length: int, sliding: bool, as_json: bool
) -> None:
    if as_json:
        protocol = {"target_length": target_length, "sliding_window": sliding}
        typer.echo(json.dumps(protocol | {"texts": entries}, indent=1))
        return
    for name, rows in entries.items():
        num_tokens = rows[0]["num_tokens"]
        kind = "window" if sliding else "memory"
        table = Table(title=f"{name}: {num_tokens:,} tokens, {target_length} at once")
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
