"""The verbs `db1 caption` and `db1 answer`: texts about images, from files or a store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from db1.cli.device import checked_device
from db1.cli.images import NamedImage, image_files, is_store, seen_images
from db1.cli.model_argument import Checkpoint, Run
from db1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from db1.inference.image_text import ImageTextWriter, WritingConfig

_CHOICE, _OUTPUT, _SHOWN = "How texts are written", "Output", "How images are shown"
_CHUNK = 256
"""Images that are in memory at once."""

_Beams = Annotated[
    int | None,
    typer.Option(help="Beams of the search; 1: the likeliest token each time.", min=1,
                 rich_help_panel=_CHOICE),
]  # fmt: skip
_LengthPenalty = Annotated[
    float, typer.Option(help="Exponent of the length in beam search.", rich_help_panel=_CHOICE)
]
_MaxTokens = Annotated[
    int,
    typer.Option("--max-tokens", "--max-length", help="Most tokens of a text.", min=1,
                 rich_help_panel=_CHOICE),
]  # fmt: skip
_Temperature = Annotated[
    float | None,
    typer.Option(help="Above 0: sample; default: the likeliest.", min=0.0, rich_help_panel=_CHOICE),
]
_TopP = Annotated[
    float | None,
    typer.Option(help="Sample of the likeliest that reach this probability (nucleus).",
                 rich_help_panel=_CHOICE),
]  # fmt: skip
_TopK = Annotated[
    int | None,
    typer.Option(help="Sample of the k likeliest.", min=1, rich_help_panel=_CHOICE),
]
_Seed = Annotated[int, typer.Option(help="Of sampling.", rich_help_panel=_CHOICE)]
_Set = Annotated[
    str | None,
    typer.Option("--set", help="Show images as in this set of the run; default: its first.",
                 rich_help_panel=_SHOWN),
]  # fmt: skip
_Prompt = Annotated[
    str | None,
    typer.Option(help="Text in front of the image; default: as trained.", rich_help_panel=_SHOWN),
]
_Json = Annotated[
    bool, typer.Option("--json", help="One JSON object a line.", rich_help_panel=_OUTPUT)
]
_Results = Annotated[
    Path | None,
    typer.Option(help="Of a store: write COCO's result file here.", rich_help_panel=_OUTPUT),
]
_Limit = Annotated[int | None, typer.Option(help="Of a store: only so many, evenly spread.", min=1)]
_SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out broken images and count them.")
]
_MaxRows = Annotated[int, typer.Option(help="Texts (times beams) at once.", min=1)]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU.")]


def caption(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Image files, folders of them, or one store of captions."
        ),
    ],
    beams: _Beams = None,
    length_penalty: _LengthPenalty = 1.0,
    max_tokens: _MaxTokens = 32,
    temperature: _Temperature = None,
    top_p: _TopP = None,
    top_k: _TopK = None,
    seed: _Seed = 0,
    set_name: _Set = None,
    prompt: _Prompt = None,
    as_json: _Json = False,
    results: _Results = None,
    limit: _Limit = None,
    skip_bad: _SkipBad = False,
    max_rows: _MaxRows = 64,
    checkpoint: Checkpoint = None,
    device: _Device = None,
) -> None:
    """Describes images.

    Without sampling options, the best of 3 beams. A store (`data/pairs/NAME/SPLIT`) gives a result
    file of COCO, [{"image_id", "caption"}, ...], that `db1 score captions` reads.

    Example: db1 caption runs/db1_tiny cat.png photos/ --json

    Example: db1 caption runs/db1_tiny cat.png --top-p 0.9 --temperature 0.8 --seed 3

    Example: db1 caption runs/db1_tiny data/pairs/coco/test --beams 5 --results coco.json
    """
    config = _config(beams or (3 if _is_greedy(temperature, top_p, top_k) else 1), length_penalty,
                     max_tokens, temperature, top_p, top_k, seed)  # fmt: skip
    if any(map(is_store, images)):
        if len(images) > 1:
            raise ConfigError(f"{images[0]}: name one store alone, not together with other paths")
        from db1.cli.describing import describe_store

        writer = _writer(run, "caption", set_name, checkpoint, device, max_rows)
        describe_store(
            writer, images[0], config,
            results=results, limit=limit, prompt=prompt, as_json=as_json,
        )  # fmt: skip
        return
    _no_store_options(results, limit)
    files = image_files(images)
    writer = _writer(run, "caption", set_name, checkpoint, device, max_rows)
    skipped: list[str] | None = [] if skip_bad else None
    for part in _chunks(list(enumerate(files))):
        seen = list(seen_images(writer, part, skipped))
        prompts = [writer.prompt(image.seen.pixels, None, prompt) for image in seen]
        numbers = [image.number for image in seen]
        for image, text in zip(seen, writer.write(prompts, config, numbers), strict=True):
            _show(image, None, {"caption": text.text, **_details(text)}, as_json, len(files) > 1)
    _tell_skipped(skipped)


def answer(
    run: Run,
    image: Annotated[
        Path, typer.Argument(help="An image file, a folder of them, or a store of questions.")
    ],
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION...", help="One or more questions; none with a store."),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(help="Choose among these answers (repeatable).", rich_help_panel=_CHOICE),
    ] = None,
    choices_from: Annotated[
        Path | None,
        typer.Option(help="Choose among the lines of this file.", rich_help_panel=_CHOICE),
    ] = None,
    beams: _Beams = None,
    length_penalty: _LengthPenalty = 1.0,
    max_tokens: _MaxTokens = 16,
    temperature: _Temperature = None,
    top_p: _TopP = None,
    top_k: _TopK = None,
    seed: _Seed = 0,
    set_name: _Set = None,
    prompt: _Prompt = None,
    as_json: _Json = False,
    results: _Results = None,
    limit: _Limit = None,
    skip_bad: _SkipBad = False,
    max_rows: _MaxRows = 64,
    checkpoint: Checkpoint = None,
    device: _Device = None,
) -> None:
    """Answers questions about images, freely or with the likeliest of a closed list.

    A store of questions gives a result file of VQA, [{"question_id", "answer"}, ...], that
    `db1 score vqa` reads.

    Example: db1 answer runs/db1_tiny shape.png "what color is the shape?"

    Example: db1 answer runs/db1_tiny shapes/ "is there a circle?" --choice yes --choice no --json

    Example: db1 answer runs/db1_tiny data/pairs/easy-vqa/test --results answers.json
    """
    config = _config(beams or 1, length_penalty, max_tokens, temperature, top_p, top_k, seed)
    closed = _closed_list(choice, choices_from)
    if is_store(image):
        from db1.cli.describing import describe_store

        if questions:
            raise ConfigError(f"{image}: a store brings its own questions, leave QUESTION out")
        writer = _writer(run, "question", set_name, checkpoint, device, max_rows)
        describe_store(
            writer, image, config,
            closed=closed, results=results, limit=limit, prompt=prompt, as_json=as_json,
        )  # fmt: skip
        return
    _no_store_options(results, limit)
    if not questions:
        raise ConfigError('no question: db1 answer RUN IMAGE "what color is it?"')
    files = image_files([image])
    writer = _writer(run, "question", set_name, checkpoint, device, max_rows)
    skipped: list[str] | None = [] if skip_bad else None
    many = len(files) * len(questions) > 1
    for part in _chunks(list(enumerate(files))):
        seen = list(seen_images(writer, part, skipped))
        asked = [(named, question) for named in seen for question in questions]
        prompts = [writer.prompt(named.seen.pixels, text, prompt) for named, text in asked]
        numbers = [
            named.number * len(questions) + k for named in seen for k in range(len(questions))
        ]
        entries = _answers(writer, prompts, config, closed, numbers)
        for (named, text), entry in zip(asked, entries, strict=True):
            _show(named, text, entry, as_json, many)
    _tell_skipped(skipped)


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


def _config(
    beams: int,
    length_penalty: float,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    seed: int,
) -> WritingConfig:
    from db1.inference.decode import DecodeConfig
    from db1.inference.image_text import WritingConfig

    greedy = _is_greedy(temperature, top_p, top_k)
    decode = DecodeConfig(greedy=greedy, temperature=temperature or 1.0, top_p=top_p, top_k=top_k)
    return WritingConfig(
        max_tokens=max_tokens,
        beams=beams,
        length_penalty=length_penalty,
        decode=decode,
        seed=seed,
    )


def _is_greedy(temperature: float | None, top_p: float | None, top_k: int | None) -> bool:
    return temperature == 0 or (temperature is None and top_p is None and top_k is None)


def _closed_list(choices: list[str] | None, file: Path | None) -> list[str]:
    if choices and file is not None:
        raise ConfigError("--choice and --choices-from exclude each other")
    if file is None:
        return list(choices or ())
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None
    if not any(lines):
        raise DataError(f"{file}: no answer in it, expected one a line")
    return [line for line in lines if line]


def _writer(
    run: Path,
    kind: str,
    set_name: str | None,
    checkpoint: str | None,
    device: str | None,
    max_rows: int,
) -> ImageTextWriter:
    from db1.inference.image_text import ImageTextWriter
    from db1.inference.load import load_agent_parts
    from db1.inference.pair_sets import settings_of

    loaded = load_agent_parts(run, checkpoint, device=checked_device(device))
    return ImageTextWriter(loaded, settings_of(loaded, kind, set_name), max_rows=max_rows)


def _no_store_options(results: Path | None, limit: int | None) -> None:
    if results is not None or limit is not None:
        raise ConfigError(
            "--results and --limit go with a store of images with texts, whose images have ids; "
            "see `db1 import --help`, or use --json"
        )


def _chunks(files: Sequence[tuple[int, Path]]) -> list[Sequence[tuple[int, Path]]]:
    return [files[first : first + _CHUNK] for first in range(0, len(files), _CHUNK)]


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
        whole = {"image": str(image.path), **asked, **entry, "notes": list(image.seen.notes)}
        typer.echo(json.dumps(whole, ensure_ascii=False))
        return
    for note in image.seen.notes:
        typer.echo(f"{image.path}: {note}", err=True)
    text = entry["caption" if question is None else "answer"]
    shown = f"{question} {text}" if question is not None and many else text
    typer.echo(f"{image.path}: {shown}" if many else shown)


def _tell_skipped(skipped: list[str] | None) -> None:
    for error in skipped or ():
        typer.echo(f"left out: {error}", err=True)


VERBS = {"caption": caption, "answer": answer}
