"""`db1 caption` and `db1 answer` over a store of images with texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from db1.cli.console import Console
from db1.cli.progress import task_bars
from db1.errors import DataError
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.metrics.annotations import IMAGE_ID, QUESTION_ID, write_result_file
from db1.metrics.pair_selection import ScoredPairs, pair_id, whole_store
from db1.metrics.pair_texts import write_texts

_KEYS = {"caption": (IMAGE_ID, "caption"), "question": (QUESTION_ID, "answer")}


def describe_store(
    writer: ImageTextWriter,
    path: Path,
    config: WritingConfig,
    *,
    closed: Sequence[str] = (),
    results: Path | None,
    limit: int | None,
    prompt: str | None,
    as_json: bool,
) -> None:
    """Writes about every image of a store: to a result file, or line by line.

    Raises:
        DataError: A broken store, or one of another kind than the writer's.
    """
    pairs = whole_store(path, limit)
    store = pairs.place(0)[0]
    if store.header.kind != writer.data.kind:
        verb = "answer" if store.header.kind == "question" else "caption"
        raise DataError(f"{path}: a store of kind {store.header.kind!r}; use `db1 {verb}`")
    with task_bars(Console(stderr=True)) as report:
        written = write_texts(
            writer, pairs, config, closed=closed, prompt=prompt,
            progress=lambda done, total: report(store.header.name, done, total),
        )  # fmt: skip
    id_key, text_key = _KEYS[store.header.kind]
    texts = dict(zip(_ids(pairs, id_key), written.texts, strict=True))
    if written.num_cut:
        typer.echo(f"{written.num_cut} question(s) were too long and were cut", err=True)
    if results is not None:
        write_result_file(results, texts, id_key, text_key)
        typer.echo(f"{len(texts)} {text_key}s: {results}")
        return
    for number, text in texts.items():
        line = json.dumps({id_key: number, text_key: text}, ensure_ascii=False)
        typer.echo(line if as_json else f"{number}: {text}")


def _ids(pairs: ScoredPairs, key: str) -> list[int]:
    places = (pairs.place(i) for i in range(len(pairs)))
    return [pair_id(store.pair(number), number, key) for store, number in places]
