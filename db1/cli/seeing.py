"""The verbs `db1 caption` and `db1 answer`: texts about images, from files or a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from db1.cli.describing import AnswerOptions, CaptionOptions, describe_store
from db1.cli.images import NamedImage, image_files, is_store, seen_images
from db1.cli.model_argument import Run, Weights
from db1.cli.options import from_dataclasses
from db1.errors import ConfigError, DataError
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.inference.pair_sets import settings_of

_CHUNK = 256
"""Images that are in memory at once."""


@from_dataclasses
def caption(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Image files, folders of them, or one store of captions."
        ),
    ],
    wanted: CaptionOptions,
    weights: Weights,
) -> None:
    """Describes images.

    Without sampling options, the best of 3 beams. A store (`data/pairs/NAME/SPLIT`) gives a result
    file of COCO, [{"image_id", "caption"}, ...], that `db1 score captions` reads.

    Example: db1 caption runs/db1_tiny cat.png photos/ --json

    Example: db1 caption runs/db1_tiny cat.png --top-p 0.9 --temperature 0.8 --seed 3

    Example: db1 caption runs/db1_tiny data/pairs/coco/test --beams 5 --results coco.json
    """
    config = wanted.writing(usual_beams=3)
    if any(map(is_store, images)):
        if len(images) > 1:
            raise ConfigError(f"{images[0]}: name one store alone, not together with other paths")
        describe_store(_writer(run, "caption", wanted, weights), images[0], config, wanted)
        return
    _no_store_options(wanted)
    files = image_files(images)
    writer = _writer(run, "caption", wanted, weights)
    for seen in _parts(writer, files, wanted):
        prompts = [writer.prompt(image.image.pixels, None, wanted.prompt) for image in seen]
        numbers = [image.number for image in seen]
        for image, text in zip(seen, writer.write(prompts, config, numbers), strict=True):
            entry = {"caption": text.text, **_details(text)}
            _show(image, None, entry, wanted.as_json, len(files) > 1)


@from_dataclasses
def answer(
    run: Run,
    image: Annotated[
        Path, typer.Argument(help="Image file, folder of them, or store of questions.")
    ],
    wanted: AnswerOptions,
    weights: Weights,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION...", help="One or more questions; none with a store."),
    ] = None,
) -> None:
    """Answers questions about images, freely or with the likeliest of a closed list.

    A store of questions gives a result file of VQA, [{"question_id", "answer"}, ...], that
    `db1 score vqa` reads.

    Example: db1 answer runs/db1_tiny shape.png "what color is the shape?"

    Example: db1 answer runs/db1_tiny shapes/ "is there a circle?" --choice yes --choice no --json

    Example: db1 answer runs/db1_tiny data/pairs/easy-vqa/test --results answers.json
    """
    config = wanted.writing(usual_beams=1)
    closed = _closed_list(wanted.choice, wanted.choices_from)
    if is_store(image):
        if questions:
            raise ConfigError(f"{image}: a store brings its own questions; leave QUESTION out")
        describe_store(_writer(run, "question", wanted, weights), image, config, wanted, closed)
        return
    _no_store_options(wanted)
    if not questions:
        raise ConfigError('no question: db1 answer RUN IMAGE "what color is it?"')
    files = image_files([image])
    writer = _writer(run, "question", wanted, weights)
    many = len(files) * len(questions) > 1
    for seen in _parts(writer, files, wanted):
        asked = [(named, question) for named in seen for question in questions]
        prompts = [writer.prompt(named.image.pixels, text, wanted.prompt) for named, text in asked]
        numbers = [
            named.number * len(questions) + k for named in seen for k in range(len(questions))
        ]
        entries = _answers(writer, prompts, config, closed, numbers)
        for (named, text), entry in zip(asked, entries, strict=True):
            _show(named, text, entry, wanted.as_json, many)


def _parts(
    writer: ImageTextWriter, files: Sequence[Path], wanted: CaptionOptions
) -> Iterator[list[NamedImage]]:
    """The images, some at a time; tells at the end which were left out."""
    skipped: list[str] | None = [] if wanted.skip_bad else None
    numbered = list(enumerate(files))
    for first in range(0, len(numbered), _CHUNK):
        yield list(seen_images(writer, numbered[first : first + _CHUNK], skipped))
    for error in skipped or ():
        typer.echo(f"left out: {error}", err=True)


def _answers(
    writer: ImageTextWriter,
    prompts: Sequence[Any],
    config: WritingConfig,
    closed: list[str],
    numbers: Sequence[int],
) -> list[dict[str, Any]]:
    if not closed:
        return [{"answer": t.text, **_details(t)} for t in writer.write(prompts, config, numbers)]
    return [
        {
            "answer": chosen.text,
            "probability": round(chosen.probability, 6),
            "log_probabilities": {
                text: round(float(value), 6)
                for text, value in zip(closed, chosen.log_probabilities, strict=True)
            },
        }
        for chosen in writer.choose(prompts, closed)
    ]


def _closed_list(choices: Sequence[str], file: Path | None) -> list[str]:
    if choices and file is not None:
        raise ConfigError("--choice and --choices-from exclude each other")
    if file is None:
        return list(choices)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None
    if not any(lines):
        raise DataError(f"{file}: no answer in it, expected one per line")
    return [line for line in lines if line]


def _writer(run: Path, kind: str, wanted: CaptionOptions, weights: Weights) -> ImageTextWriter:
    loaded = weights.load(run)
    settings = settings_of(loaded, kind, wanted.set_name)
    return ImageTextWriter(loaded, settings, max_rows=wanted.max_rows)


def _no_store_options(wanted: CaptionOptions) -> None:
    if wanted.results is not None or wanted.limit is not None:
        raise ConfigError(
            "--results and --limit go with a store of images with texts, whose images have ids; "
            "see `db1 import --help`, or use --json"
        )


def _details(text: Any) -> dict[str, Any]:
    return {
        "log_probability": round(text.log_probability, 6),
        "tokens": text.num_tokens,
        "reason": text.reason,
    }


def _show(
    image: NamedImage, question: str | None, entry: dict[str, Any], as_json: bool, many: bool
) -> None:
    if as_json:
        asked = {} if question is None else {"question": question}
        whole = {"image": str(image.path), **asked, **entry, "notes": list(image.image.notes)}
        typer.echo(json.dumps(whole, ensure_ascii=False))
        return
    for note in image.image.notes:
        typer.echo(f"{image.path}: {note}", err=True)
    text = entry["caption" if question is None else "answer"]
    shown = f"{question} {text}" if question is not None and many else text
    typer.echo(f"{image.path}: {shown}" if many else shown)


VERBS = {"caption": caption, "answer": answer}
