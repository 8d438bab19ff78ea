"""The verb `db1 import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from db1.errors import ConfigError


def import_(
    kind: Annotated[str, typer.Argument(help="text")],
    source: Annotated[str, typer.Argument(help="`kjv`, or a .txt or .jsonl file.")],
    out: Annotated[Path, typer.Option(help="Folder of the new store.")],
    text_size: Annotated[int, typer.Option(help="Ids of the tokenizer to train.", min=257)] = 2048,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this tokenizer instead.")] = None,
) -> None:
    """Imports foreign data into a store of db1.

    Example: db1 import text my_corpus.jsonl --out data/my_corpus --text-size 8192
    """
    from db1.cli.prepare import describe_text
    from db1.sources.text import prepare_text
    from db1.tokens.text import TextTokenizer

    if kind != "text":
        raise ConfigError(f"import: got kind {kind!r}, expected text")
    given = TextTokenizer.load(tokenizer) if tokenizer else None
    summary = prepare_text(source, out, vocabulary_text_size=text_size, tokenizer=given)
    Console().print(describe_text(out.name, summary), soft_wrap=True)


VERBS = {"import": import_}
