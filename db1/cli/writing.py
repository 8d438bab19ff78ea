"""The verb `db1 generate`: text behind prompts, or a conversation on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from db1.cli.device import checked_device
from db1.cli.model_argument import Run
from db1.errors import CheckpointError, ConfigError, DataError
from db1.json_shape import parse_json

if TYPE_CHECKING:
    from db1.inference.decode import DecodeConfig
    from db1.inference.generate import Generation, Writer

_PROMPTS, _CHOICE, _OUTPUT = "Prompts", "How tokens are chosen", "Output"


def generate(
    run: Run,
    prompt: Annotated[
        str | None, typer.Option(help="Text to go on from.", rich_help_panel=_PROMPTS)
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            help="Prompts: one a line, or in a .jsonl file one object with `prompt` a line.",
            rich_help_panel=_PROMPTS,
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "--tokens", help="Most tokens to write.", min=1)
    ] = 100,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends the writing (repeatable).")
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Texts for each prompt.", min=1)] = 1,
    memory: Annotated[
        int | None, typer.Option(help="Tokens looked back on; default: as trained.", min=1)
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0: always the likeliest.", min=0.0, rich_help_panel=_CHOICE)
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Only the k likeliest.", min=1, rich_help_panel=_CHOICE)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Only the likeliest that reach this probability.", rich_help_panel=_CHOICE
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Of the first sample; the next has seed + 1.", rich_help_panel=_CHOICE),
    ] = 0,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Show text while it is written.", rich_help_panel=_OUTPUT),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line.", rich_help_panel=_OUTPUT)
    ] = False,
    checkpoint: Annotated[str | None, typer.Option(help="Tag; default: the newest.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU.")] = None,
) -> None:
    """Writes on from a prompt; without one, talks on a terminal or reads a prompt from a pipe.

    Example: db1 generate runs/db1_tiny --prompt "In the beginning"

    Example: db1 generate runs/db1_tiny --prompt-file prompts.txt --num-samples 3 --json

    Example: db1 generate runs/db1_tiny
    """
    from db1.inference.decode import DecodeConfig

    decode = DecodeConfig(
        greedy=temperature == 0, temperature=temperature or 1.0, top_k=top_k, top_p=top_p
    )
    options = _Options(max_tokens, decode, tuple(stop or ()), range(seed, seed + num_samples))
    talks = prompt is None and prompt_file is None and sys.stdin.isatty()
    if stream and (as_json or num_samples > 1):
        raise ConfigError("--stream shows one text as it comes; leave out --json and --num-samples")
    if talks and (as_json or num_samples > 1):
        raise ConfigError("a conversation shows one text; give --prompt for --json, --num-samples")
    prompts = [] if talks else _prompts(prompt, prompt_file)
    writer = _writer(run, checkpoint, memory, device)
    if talks:
        _converse(writer, options)
        return
    for number, text in enumerate(prompts):
        _write(writer, number, text, options, stream=stream, as_json=as_json, many=len(prompts) > 1)


@dataclass(frozen=True)
class _Options:
    max_tokens: int
    decode: DecodeConfig
    stops: tuple[str, ...]
    seeds: Sequence[int]


def _writer(run: Path, checkpoint: str | None, memory: int | None, device: str | None) -> Writer:
    from db1.inference.generate import Writer
    from db1.inference.load import load_agent_parts

    loaded = load_agent_parts(run, checkpoint, device=checked_device(device))
    if loaded.tokenizer is None:
        raise CheckpointError(f"{run}: the run has no tokenizer, so it never learned text")
    length = loaded.context_length if memory is None else memory
    return Writer(loaded.model, loaded.vocabulary, loaded.tokenizer, memory_length=length)


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    if prompt is not None and file is not None:
        raise ConfigError("--prompt and --prompt-file exclude each other")
    if prompt is not None:
        return [prompt]
    if file is not None:
        return read_prompts(file)
    text = sys.stdin.read()
    if not text:
        raise ConfigError("no prompt: give --prompt TEXT, --prompt-file FILE, or text on stdin")
    return [text]


def read_prompts(file: Path) -> list[str]:
    """Reads one prompt a line; of a .jsonl file, the `prompt` of each line's object.

    Raises:
        DataError: When the file cannot be read, holds no prompt, or a line is no such object.
    """
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text ({error})") from None
    lines = [(n, line) for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{file}: no prompt in it, expected one a line")
    if file.suffix != ".jsonl":
        return [line for _, line in lines]
    return [_prompt_of(line, f"{file}, line {n}") for n, line in lines]


def _prompt_of(line: str, where: str) -> str:
    try:
        found = parse_json(line)
    except ValueError:
        found = None
    prompt = found.get("prompt") if isinstance(found, dict) else None
    if not isinstance(prompt, str):
        raise DataError(
            f'{where}: got {line[:60]!r}, expected an object such as {{"prompt": "In"}}'
        )
    return prompt


def _write(
    writer: Writer,
    number: int,
    prompt: str,
    options: _Options,
    *,
    stream: bool,
    as_json: bool,
    many: bool,
) -> None:
    """Writes behind one prompt and prints it."""
    if stream:
        _echo_part(prompt)
    samples = _sample(writer, prompt, options, stream)
    if stream:
        typer.echo("")
    for sample, (seed, written) in enumerate(zip(options.seeds, samples, strict=True)):
        if as_json:
            entry = {"prompt": prompt, "sample": sample, "seed": seed}
            entry |= {"text": written.text, "tokens": len(written.ids), "reason": written.reason}
            typer.echo(json.dumps(entry, ensure_ascii=False))
        elif not stream:
            if many or len(samples) > 1:
                typer.echo(f"=== prompt {number + 1}, sample {sample + 1}")
            typer.echo(prompt + written.text)


def _sample(writer: Writer, prompt: str, options: _Options, stream: bool) -> list[Generation]:
    writer.clear()
    writer.read(prompt)
    return writer.write(
        max_tokens=options.max_tokens,
        decode=options.decode,
        seeds=options.seeds,
        stops=options.stops,
        shown=(lambda sample, piece: _echo_part(piece)) if stream else None,
    )


def _converse(writer: Writer, options: _Options) -> None:
    """Reads lines until the end of input; the memory carries over from answer to prompt."""
    typer.echo(
        "What you type goes on behind what is written. /new forgets all, Ctrl-C takes an answer "
        "back, Ctrl-D ends."
    )
    seed, between = options.seeds[0], ""
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo("")
            return
        if line.strip() == "/new":
            writer.clear()
            between = ""
            continue
        writer.read(between + line)
        try:
            _answer(writer, options, seed)
        except KeyboardInterrupt:
            typer.echo(" ...", nl=False)
        typer.echo("")
        seed, between = seed + 1, "\n"


def _answer(writer: Writer, options: _Options, seed: int) -> None:
    writer.write(
        max_tokens=options.max_tokens,
        decode=options.decode,
        seeds=[seed],
        stops=options.stops,
        shown=lambda sample, piece: _echo_part(piece),
    )


def _echo_part(text: str) -> None:
    typer.echo(text, nl=False)
    sys.stdout.flush()


VERBS = {"generate": generate}
