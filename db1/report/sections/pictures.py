"""Captions of held-out images and answers to questions about them, with examples."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from db1.errors import DataError
from db1.report.blocks import (
    Block,
    Cell,
    Column,
    Gallery,
    Picture,
    Prose,
    Section,
    Table,
)
from db1.report.material import Material

_MEDIA_TYPE = "image/png"


def captions(material: Material) -> Section | None:
    """Scores of each set beside those of always giving the most frequent training caption."""
    found = material.results.get("captions") or {}
    blocks: list[Block] = []
    for name, entry in found.items():
        blocks += [_caption_table(name, entry), Prose(text=_caption_words(entry))]
        blocks.append(Gallery(pictures=_pictures(name, "captions", entry, _caption_lines)))
    return Section(name="captions", title="Captions", blocks=tuple(blocks)) if blocks else None


def questions(material: Material) -> Section | None:
    """Accuracy by type beside that of always giving the type's most frequent answer."""
    found = material.results.get("questions") or {}
    blocks: list[Block] = []
    for name, entry in found.items():
        blocks.append(_question_table(name, entry))
        if entry["num_cut"]:
            blocks.append(Prose(text=f"{entry['num_cut']} questions did not fit and were cut."))
        blocks.append(Gallery(pictures=_pictures(name, "questions", entry, _question_lines)))
    return Section(name="questions", title="Questions", blocks=tuple(blocks)) if blocks else None


def _caption_table(name: str, entry: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            Cell(text=measure, key=measure),
            _score(value),
            _score(entry["baseline"]["scores"].get(measure)),
        )
        for measure, value in entry["scores"].items()
    )
    return Table(
        name=f"captions-{name}",
        caption=f"{name}, {entry['split']}: {entry['num_images']:,} images",
        columns=(
            Column(title="measure", is_text=True, is_main=True),
            Column(title="run", is_main=True),
            Column(title="most frequent caption"),
        ),
        rows=rows,
    )


def _score(value: float | None) -> Cell:
    if value is None:
        return Cell(text="-")
    return Cell(text=f"{value:.3f}", key=value)


def _caption_words(entry: Mapping[str, Any]) -> str:
    named = {"ptb": "Stanford's PTB tokenizer", "plain": "db1's plain tokenizer"}
    words = [
        f"Tokens of {named.get(entry['tokenizer'], entry['tokenizer'])}.",
        f"{entry['distinct_captions']:,} different captions written.",
        f'The most frequent training caption is "{entry["baseline"]["caption"]}".',
    ]
    if entry["not_run"]:
        words.append(f"Not run here: {', '.join(entry['not_run'])}.")
    return " ".join(words)


def _question_table(name: str, entry: Mapping[str, Any]) -> Table:
    baseline, counts, blind = entry["baseline"], entry["counts"], entry["blind"]
    lines = [
        ("all", entry["accuracy"], baseline["accuracy"], blind["accuracy"], entry["num_questions"])
    ]
    for kind in ("answer_type", "question_type"):
        what = kind.split("_")[0]
        for key, value in entry[f"by_{kind}"].items():
            others = (part[f"by_{kind}"].get(key) for part in (baseline, blind))
            lines.append((f"{what}: {key}", value, *others, counts[kind].get(key)))
    closed = entry["closed_answers"]
    how = f"the likeliest of {closed:,} answers" if closed else "answers written freely"
    return Table(
        name=f"questions-{name}",
        caption=f"{name}, {entry['split']}: accuracy ({entry['mode']} mode), {how}",
        columns=(
            Column(title="type", is_text=True, is_main=True),
            Column(title="run", is_main=True),
            Column(title="type's most frequent answer"),
            Column(title="same question's most frequent answer"),
            Column(title="questions"),
        ),
        rows=tuple(
            (
                Cell(text=kind, key=kind),
                _accuracy(value),
                _accuracy(usual),
                _accuracy(unseen),
                Cell(text="-" if count is None else f"{count:,}", key=count),
            )
            for kind, value, usual, unseen, count in lines
        ),
    )


def _accuracy(value: float | None) -> Cell:
    return Cell(text="-" if value is None else f"{value:.1f} %", key=value)


def _pictures(name: str, section: str, entry: Mapping[str, Any], lines: Any) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            data=_image(example["image"], f"{section}.{name}.examples[{number}].image"),
            media_type=_MEDIA_TYPE,
            description=f"{name} {example['id']}",
            lines=lines(example),
            path=f"examples/{section}-{name}-{number}.png",
        )
        for number, example in enumerate(entry["examples"])
    )


def _image(url: str, where: str) -> bytes:
    """The bytes in a data: URL of results.json."""
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except ValueError as error:
        raise DataError(f"results.json: {where} is no picture ({error}); evaluate again") from None


def _caption_lines(example: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    references = "; ".join(example["references"])
    return (("written", example["caption"]), ("expected", references))


def _question_lines(example: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    answers = ", ".join(example["answers"])
    return (
        ("question", example["question"]),
        ("answer", example["answer"]),
        ("expected", answers),
    )
