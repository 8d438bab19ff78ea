"""The verb `db1 generate`: text after prompts, or a conversation on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from db1.cli.model_argument import Run, Weights
from db1.cli.options import from_dataclasses
from db1.errors import CheckpointError, ConfigError, DataError
from db1.inference.decode import DecodeConfig, TopP
from db1.inference.generate import Generation, Writer
from db1.json_shape import parse_json
from db1.options import option
from db1.ranges import Checked, Count, NonNegative

_PROMPTS, _CHOICE, _OUTPUT = "Prompts", "How tokens are chosen", "Output"


@dataclass(frozen=True, kw_only=True)
class Writing(Checked):
    """Prompts, and how the text after them is written and shown."""

    prompt: str | None = option(None, "Text to continue.", panel=_PROMPTS)
    prompt_file: Path | None = option(
        None,
        "Prompts: one a line, or in a .jsonl file one object with `prompt` a line.",
        panel=_PROMPTS,
    )
    max_tokens: Count = option(100, "Most tokens to write.", also="tokens")
    stop: tuple[str, ...] = option((), "Text that ends the writing (repeatable).")
    num_samples: Count = option(1, "Texts for each prompt.")
    memory: Count | None = option(None, "Tokens of memory; default: as trained.")
    temperature: NonNegative = option(
        0.8, "Sampling temperature; 0: always the likeliest token.", panel=_CHOICE
    )
    top_k: Count | None = option(None, "Sample among the k likeliest tokens.", panel=_CHOICE)
    top_p: TopP | None = option(
        None, "Sample among the likeliest tokens that reach this probability.", panel=_CHOICE
    )
    seed: int = option(0, "Seed of the first sample; the next has seed + 1.", panel=_CHOICE)
    stream: bool = option(False, "Print the text while it is being generated.", panel=_OUTPUT)
    as_json: bool = option(False, "Print one JSON object per line.", panel=_OUTPUT, name="json")

    @property
    def talks(self) -> bool:
        """A conversation: no prompt is given, and a person is there."""
        return self.prompt is None and self.prompt_file is None and sys.stdin.isatty()

    @property
    def decode(self) -> DecodeConfig:
        """The way tokens are chosen."""
        return DecodeConfig.at(self.temperature, top_k=self.top_k, top_p=self.top_p)

    @property
    def seeds(self) -> range:
        """One a sample."""
        return range(self.seed, self.seed + self.num_samples)

    def check(self) -> None:
        """Raises ConfigError for options that exclude each other."""
        one_text = not self.as_json and self.num_samples == 1
        if self.stream and not one_text:
            raise ConfigError(
                "--stream shows one text as it comes; leave out --json and --num-samples"
            )
        if self.talks and not one_text:
            raise ConfigError(
                "--json and --num-samples need a prompt; give --prompt TEXT or --prompt-file FILE"
            )
        if self.prompt is not None and self.prompt_file is not None:
            raise ConfigError("--prompt and --prompt-file exclude each other")


@from_dataclasses
def generate(run: Run, writing: Writing, weights: Weights) -> None:
    """Writes on from a prompt; without one, talks on a terminal or reads a prompt from a pipe.

    Example: db1 generate runs/db1_tiny --prompt "In the beginning"

    Example: db1 generate runs/db1_tiny --prompt-file prompts.txt --num-samples 3 --json

    Example: db1 generate runs/db1_tiny
    """
    writing.check()
    prompts = [] if writing.talks else _prompts(writing)
    writer = _writer(run, weights, writing.memory)
    if writing.talks:
        _converse(writer, writing)
        return
    for number, text in enumerate(prompts):
        _write(writer, number, text, writing, many=len(prompts) > 1)


def _writer(run: Path, weights: Weights, memory: int | None) -> Writer:
    loaded = weights.load(run)
    if loaded.tokenizer is None:
        raise CheckpointError(f"{run}: the run has no tokenizer, so it never learned text")
    length = loaded.context_length if memory is None else memory
    return Writer(loaded.model, loaded.vocabulary, loaded.tokenizer, memory_length=length)


def _prompts(writing: Writing) -> list[str]:
    if writing.prompt is not None:
        return [writing.prompt]
    if writing.prompt_file is not None:
        return read_prompts(writing.prompt_file)
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
        raise DataError(f"{file}: no prompt in it, expected one per line")
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


def _write(writer: Writer, number: int, prompt: str, writing: Writing, *, many: bool) -> None:
    """Writes after one prompt and prints it."""
    if writing.stream:
        _echo_part(prompt)
    writer.clear()
    writer.read(prompt)
    samples = _sample(writer, writing, writing.seeds, is_shown=writing.stream)
    if writing.stream:
        typer.echo("")
    for sample, (seed, written) in enumerate(zip(writing.seeds, samples, strict=True)):
        if writing.as_json:
            entry = {"prompt": prompt, "sample": sample, "seed": seed}
            entry |= {"text": written.text, "tokens": len(written.ids), "reason": written.reason}
            typer.echo(json.dumps(entry, ensure_ascii=False))
        elif not writing.stream:
            if many or len(samples) > 1:
                typer.echo(f"=== prompt {number + 1}, sample {sample + 1}")
            typer.echo(prompt + written.text)


def _sample(
    writer: Writer, writing: Writing, seeds: Sequence[int], *, is_shown: bool
) -> list[Generation]:
    """Writes on from what was read, once for each seed."""
    return writer.write(
        max_tokens=writing.max_tokens,
        decode=writing.decode,
        seeds=seeds,
        stops=writing.stop,
        shown=(lambda sample, piece: _echo_part(piece)) if is_shown else None,
    )


def _converse(writer: Writer, writing: Writing) -> None:
    """Reads lines until the end of input; the memory carries over from answer to prompt."""
    typer.echo(
        "What you type continues the text. /new starts over, Ctrl-C undoes an answer, Ctrl-D ends."
    )
    seed, between = writing.seed, ""
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
            _sample(writer, writing, [seed], is_shown=True)
        except KeyboardInterrupt:
            typer.echo(" ...", nl=False)
        typer.echo("")
        seed, between = seed + 1, "\n"


def _echo_part(text: str) -> None:
    typer.echo(text, nl=False)
    sys.stdout.flush()


VERBS = {"generate": generate}
