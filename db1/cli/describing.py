"""Options of `db1 caption` and `db1 answer`, and what both do with a store of images with texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from db1.cli.console import Console
from db1.cli.progress import task_bars
from db1.errors import DataError
from db1.inference.decode import DecodeConfig, TopP
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.metrics.annotations import IMAGE_ID, QUESTION_ID, write_result_file
from db1.metrics.pair_selection import ScoredPairs, pair_id, whole_store
from db1.metrics.pair_texts import write_texts
from db1.options import option
from db1.ranges import Checked, Count, NonNegative, Range, Seed

CHOICE, _OUTPUT, _SHOWN = "How texts are written", "Output", "How images are shown"
_KEYS = {"caption": (IMAGE_ID, "caption"), "question": (QUESTION_ID, "answer")}


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(Checked):
    """Options of texts about images: how they are written and shown, and how images are."""

    beams: Annotated[int, Range(least=1, most=4_096)] | None = option(
        None, "Beams of the beam search; 1: greedy decoding.", panel=CHOICE
    )
    length_penalty: NonNegative = option(
        1.0, "Length penalty of the beam search (an exponent).", panel=CHOICE
    )
    max_tokens: Count = option(32, "Most tokens per text.", also="max-length", panel=CHOICE)
    temperature: NonNegative | None = option(
        None, "Sampling temperature; default: greedy decoding.", panel=CHOICE
    )
    top_p: TopP | None = option(
        None,
        "Sample among the likeliest tokens that reach this probability (nucleus).",
        panel=CHOICE,
    )
    top_k: Count | None = option(None, "Sample among the k likeliest tokens.", panel=CHOICE)
    seed: Seed = option(0, "Seed of the sampling.", panel=CHOICE)
    set_name: str | None = option(
        None,
        "Show images as this set of the run does; default: its first set.",
        name="set",
        panel=_SHOWN,
    )
    prompt: str | None = option(
        None, "Text in front of the image; default: as trained.", panel=_SHOWN
    )
    as_json: bool = option(False, "Print one JSON object per line.", name="json", panel=_OUTPUT)
    results: Path | None = option(
        None, "Write COCO's result file here (with a store).", panel=_OUTPUT, writes=(".json",)
    )
    limit: Count | None = option(None, "Use only this many images, evenly spread (with a store).")
    skip_bad: bool = option(False, "Skip broken images and count them.")
    max_rows: Count = option(64, "Texts (times beams) per batch.")

    def writing(self, usual_beams: int) -> WritingConfig:
        """The way texts are written; `usual_beams` where neither beams nor sampling was asked."""
        temperature = self.temperature
        if temperature is None:
            temperature = 1.0 if self.top_p or self.top_k else 0.0
        decode = DecodeConfig.at(temperature, top_p=self.top_p, top_k=self.top_k)
        return WritingConfig(
            max_tokens=self.max_tokens,
            beams=self.beams or (usual_beams if decode.greedy else 1),
            length_penalty=self.length_penalty,
            decode=decode,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(CaptionOptions):
    """Options of answers: shorter ones, perhaps out of a closed list."""

    max_tokens: Count = option(16, "Most tokens per text.", also="max-length", panel=CHOICE)
    choice: tuple[str, ...] = option((), "Choose among these answers (repeatable).", panel=CHOICE)
    choices_from: Path | None = option(None, "Choose among the lines of this file.", panel=CHOICE)


def describe_store(
    writer: ImageTextWriter,
    path: Path,
    config: WritingConfig,
    wanted: CaptionOptions,
    closed: Sequence[str] = (),
) -> None:
    """Writes about every image of a store: to a result file, or line by line.

    Raises:
        DataError: A broken store, or one of another kind than the writer's.
    """
    pairs = whole_store(path, wanted.limit)
    store = pairs.place(0)[0]
    if store.header.kind != writer.data.kind:
        verb = "answer" if store.header.kind == "question" else "caption"
        raise DataError(f"{path}: a store of kind {store.header.kind!r}; use `db1 {verb}`")
    with task_bars(Console(stderr=True)) as report:
        written = write_texts(
            writer, pairs, config, closed=closed, prompt=wanted.prompt,
            progress=lambda done, total: report(store.header.name, done, total),
        )  # fmt: skip
    id_key, text_key = _KEYS[store.header.kind]
    texts = dict(zip(_ids(pairs, id_key), written.texts, strict=True))
    if written.num_cut:
        typer.echo(f"{written.num_cut} question(s) were too long and were cut", err=True)
    if wanted.results is not None:
        write_result_file(wanted.results, texts, id_key, text_key)
        typer.echo(f"{len(texts)} {text_key}s: {wanted.results}")
        return
    for number, text in texts.items():
        line = json.dumps({id_key: number, text_key: text}, ensure_ascii=False)
        typer.echo(line if wanted.as_json else f"{number}: {text}")


def _ids(pairs: ScoredPairs, key: str) -> list[int]:
    places = (pairs.place(i) for i in range(len(pairs)))
    return [pair_id(store.pair(number), number, key) for store, number in places]
