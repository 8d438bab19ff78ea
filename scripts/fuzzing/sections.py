"""The five storms: bad commands, damaged bytes, changed JSON, no room or right, kills."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import material
from .material import Reader
from .trial import Outcome, fault_of, few_files, little_room, output_to, run

NUMBERS = ("-1", "0", "1e30", "nan", "inf", "-inf", "9" * 30, "many", "", "0x10", "1_0", "٣", "1.5")
TEXTS = ("", " ", "a b", "é", "\udcff", "x" * 5_000, "-", "--", "../..", "a\nb", "'", "#", "null",
         "[1, 2", "${nothing}", "\x1b[2J", "a/b", "tsp/uniform20", "tsp/", "/")  # fmt: skip
PATHS = ("", "/nope", "words.jsonl", "data", "words.jsonl/x", "loop", "n" * 300, "tiny.yaml",
         "runs/tiny", "ev", "/dev/null", "\udcff", "data/tsp/uniform20", ".")  # fmt: skip
SETTINGS = (*NUMBERS, *TEXTS, "true", "[]", "{}", "{a: 1}", "[1]", "2024-01-05", "12:30:45", "1e-3")
LEFT_OUT = frozenset({"demo", "bench", "doctor", "measure", "minari", "play", "record", "convert"})
"""Verbs that serve, measure for long, ask a network, or open windows."""


@dataclass
class Tally:
    """What a storm came to.

    Args:
        name: Of the storm.
        seed: Of its draws.
        trials: Commands run.
        refused: Of these, with status 2.
        found: With status 1: a finding, or a task that failed.
        faults: What must not be, each with what led to it.
        seconds: Taken.
    """

    name: str
    seed: int
    trials: int = 0
    refused: int = 0
    found: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, outcome: Outcome, what: str, silent: bool = False) -> None:
        """Counts one trial."""
        self.trials += 1
        self.refused += outcome.status == 2
        self.found += outcome.status == 1
        fault = fault_of(outcome) or ("silent change" if silent else None)
        if fault:
            last = outcome.err.strip().splitlines()[-1:] or [""]
            self.fail(f"{fault}: {what}: {last[0][:300]}")

    def fail(self, fault: str) -> None:
        """Notes a fault, and tells of it at once."""
        self.faults.append(fault)
        print(f"{self.name}: {fault}", file=sys.stderr, flush=True)


Progress = Callable[[int], None]


def commands(folder: Path, count: int, seed: int, tick: Progress) -> Tally:
    """Bad command lines, and configurations with bad settings, half of each."""
    rng, tally = random.Random(seed), Tally("commands", seed)
    verbs, settings = list(_verbs()), list(_settings())
    (folder / "loop").unlink(missing_ok=True)
    (folder / "loop").symlink_to("loop")
    for number in range(count):
        if number % 2:
            key = rng.choice(settings)
            if rng.random() < 0.1:
                key = key[: rng.randrange(len(key))] + rng.choice(["", ".x", "..", " "])
            overrides = [f"{key}={rng.choice(SETTINGS)}", "name=fuzz", "training.num_steps=1"]
            arguments = ["train", "tiny.yaml", *overrides]
            if number % 4 == 1:
                arguments.append("--dry-run")
        else:
            arguments = _command_line(rng, *rng.choice(verbs))
        outcome = run(arguments, folder, limit=120)
        tally.add(outcome, repr(arguments)[:400])
        shutil.rmtree(folder / "runs/fuzz", ignore_errors=True)
        tick(1)
    return tally


def _verbs() -> Iterator[tuple[list[str], list[Any]]]:
    """Words and parameters of every verb that may be tried."""
    import typer.main

    from db1.cli.main import app

    def walk(command: Any, words: list[str]) -> Iterator[tuple[list[str], list[Any]]]:
        if words and words[-1] in LEFT_OUT:
            return
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*words, name])
        if not getattr(command, "commands", {}):
            yield words, [p for p in command.params if p.name != "help"]

    yield from walk(typer.main.get_command(app), [])


def _command_line(rng: random.Random, words: list[str], parameters: list[Any]) -> list[str]:
    given: list[str] = list(words)
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            if rng.random() < 0.85:
                given.append(rng.choice(rng.choice((PATHS, PATHS, TEXTS))))
        elif rng.random() < 0.25:
            given += _option(rng, parameter)
    if rng.random() < 0.1:
        given.append(rng.choice(("--no-such", "-x", "--", "more")))
    return given


def _option(rng: random.Random, parameter: Any) -> list[str]:
    flag = rng.choice([*parameter.opts, *parameter.secondary_opts])
    if getattr(parameter, "is_flag", False):
        return [flag]
    if parameter.name in ("out", "html", "latex", "json_file", "as_json"):
        return [flag, rng.choice(("words.jsonl/x", "n" * 300, "loop", "data", "", "/dev/null/x"))]
    return [flag, rng.choice(rng.choice((NUMBERS, TEXTS, PATHS)))]


def _settings() -> Iterator[str]:
    """Dotted keys of an experiment."""
    from db1.training.experiment import ExperimentConfig

    def walk(cls: type, prefix: str) -> Iterator[str]:
        hints = typing.get_type_hints(cls)
        for one in dataclasses.fields(cls):
            kinds = [hints[one.name], *typing.get_args(hints[one.name])]
            inner = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
            name = f"{prefix}{one.name}"
            yield name
            if inner is not None:
                is_named = typing.get_origin(hints[one.name]) is dict
                yield from walk(inner, f"{name}.words." if is_named else f"{name}.")

    yield from walk(ExperimentConfig, "")


def flips(folder: Path, readers: list[Reader], count: int, seed: int, tick: Progress) -> Tally:
    """Flipped bits, cut ends and lost pieces in files of every kind."""
    rng, tally = random.Random(seed), Tally("flips", seed)
    for reader, times in _dealt(readers, count):
        whole = material.baseline(reader, folder)
        for _ in range(times):
            path = folder / rng.choice(reader.files)
            content, how = damaged(rng, path.read_bytes())
            tally.add(*_damaged_run(reader, folder, path, content, how, whole))
            tick(1)
    return tally


def changes(folder: Path, readers: list[Reader], count: int, seed: int, tick: Progress) -> Tally:
    """JSON files whose values have another kind, shape or size, or are missing."""
    rng, tally = random.Random(seed), Tally("changes", seed)
    with_json = [
        dataclasses.replace(reader, files=tuple(f for f in reader.files if _is_json(folder / f)))
        for reader in readers
    ]
    for reader, times in _dealt([r for r in with_json if r.files], count):
        whole = material.baseline(reader, folder)
        for _ in range(times):
            path = folder / rng.choice(reader.files)
            text, how = changed_json(rng, path.read_text(encoding="utf-8"))
            tally.add(*_damaged_run(reader, folder, path, text.encode(), how, whole))
            tick(1)
    return tally


def _dealt(readers: list[Reader], count: int) -> Iterator[tuple[Reader, int]]:
    """The trials of each kind, as equal as they can be."""
    for number, reader in enumerate(readers):
        yield reader, count * (number + 1) // len(readers) - count * number // len(readers)


def _damaged_run(
    reader: Reader, folder: Path, path: Path, damaged: bytes, how: str, whole: Outcome
) -> tuple[Outcome, str, bool]:
    kept = folder.with_name(f"{folder.name}.kept")
    shutil.rmtree(kept, ignore_errors=True)
    place = folder / path.relative_to(folder).parts[0]
    (shutil.copytree if place.is_dir() else shutil.copy2)(place, kept)
    material.clear(reader.outputs, folder)
    try:
        path.write_bytes(damaged)
        outcome = run(reader.command, folder, limit=120)
    finally:
        material.clear([place.name], folder)
        shutil.move(kept, place)
    is_told = " W " in outcome.err  # a warning, such as of steps behind the last record
    silent = reader.is_own and outcome.status == 0 and outcome.out != whole.out and not is_told
    return outcome, f"{reader.kind}: {path.relative_to(folder)} {how}", silent


def damaged(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Bytes with a bit flipped, noise in them, a piece lost or the end cut off, and what it was."""
    place = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place], f"cut at {place}"
    if kind == 1:
        length = rng.randrange(1, 1 + min(64, len(content) - place))
        return content[:place] + content[place + length :], f"lost {length} bytes at {place}"
    if kind == 2:
        noise = rng.randbytes(min(16, len(content) - place))
        return content[:place] + noise + content[place + len(noise) :], f"noise at {place}"
    bit = rng.randrange(8)
    flipped = bytes([content[place] ^ (1 << bit)])
    return content[:place] + flipped + content[place + 1 :], f"bit {bit} at {place}"


ODD: tuple[Any, ...] = (None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "x" * 3_000,
                        [], {}, [[]], {"a": {}}, "../../x", "/etc/passwd", [None])  # fmt: skip


def changed_json(rng: random.Random, text: str) -> tuple[str, str]:
    """A JSON text (or one line of a file of lines) with one odd value, or a part gone."""
    lines = text.splitlines()
    number = rng.randrange(len(lines)) if len(lines) > 1 and _parses(lines[0]) else None
    content = json.loads(text if number is None else lines[number])
    if rng.random() < 0.05:
        content, how = json.loads("[" * 500 + "]" * 500), "nested 500 deep"
    else:
        content, how = _with_odd(rng, content)
    changed = json.dumps(content)
    if number is not None:
        changed = "\n".join([*lines[:number], changed, *lines[number + 1 :]]) + "\n"
    return changed, how


def _with_odd(rng: random.Random, content: Any) -> tuple[Any, str]:
    places = list(_places(content, ()))
    place = rng.choice(places)
    odd = rng.choice(ODD)
    if not place:
        return odd, f"is {odd!r}"
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if rng.random() < 0.3:
        del inner[place[-1]]
        return content, f"without {place}"
    inner[place[-1]] = odd
    return content, f"{place} = {str(odd)[:40]!r}"


def _places(content: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield place
    items: Any = ()
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield from _places(value, (*place, key))


def _is_json(path: Path) -> bool:
    if path.suffix not in (".json", ".jsonl"):
        return False
    text = path.read_text(encoding="utf-8")
    return _parses(text) or _parses((text.splitlines() or [""])[0])


def _parses(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def writes(folder: Path, count: int, seed: int, tick: Progress) -> Tally:
    """Verbs that write, without room or right; what is there already stays as it is."""
    rng, tally = random.Random(seed), Tally("writes", seed)
    (folder / "loop").unlink(missing_ok=True)
    (folder / "loop").symlink_to("loop")
    for _ in range(count):
        command, out = rng.choice(_WRITERS)
        target, prepare, how = "fuzz-out", None, ""
        kind = rng.randrange(4)
        if kind == 0:
            target = rng.choice(("words.jsonl/x", "loop/x", "n" * 300, "tiny.yaml", "/proc/nope/x"))
            how = f"to {target[:30]}"
        elif kind == 1:
            limit = rng.choice((4_000, 8_000, 30_000))
            prepare, how = little_room(limit), f"{limit} bytes a file"
        elif kind == 2:
            stream = rng.choice(("/dev/full", None))
            prepare, how = output_to(stream), f"standard output {stream}"
        else:
            number = rng.choice((8, 16, 24))
            prepare, how = few_files(number), f"{number} open files"
        arguments = [word.replace("OUT", target) for word in (*command, *out)]
        before = _state(folder)
        outcome = run(arguments, folder, limit=120, prepare=prepare)
        lost = before - _state(folder)
        tally.add(
            outcome, f"{' '.join(arguments)[:200]}: {how}; lost {sorted(lost)[:3]}", bool(lost)
        )
        material.clear(["fuzz-out", "fuzz-runs"], folder)
        tick(1)
    return tally


_WRITERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("train", "tiny.yaml", "training.num_steps=1", "name=fuzz"), ("runs=OUT",)),
    (("collect", "tsp/uniform20", "--episodes", "2", "--reference-episodes", "1",
      "--processes", "1"), ("--out", "OUT")),
    (("eval", "runs/tiny", "--policy", "random", "--episodes", "1", "--workers", "0",
      "--no-prompt", "--max-steps", "2"), ("--out", "OUT")),
    (("plot", "runs/tiny"), ("--out", "OUT.html")),
    (("report", "ev"), ("--html", "OUT")),
    (("report", "ev"), ("--latex", "OUT")),
    (("compare", "ev", "--published"), ("--json", "OUT")),
    (("inspect", "data/tsp/uniform20"), ("--json", "OUT")),
    (("inspect", "data/tsp/uniform20"), ("--html", "OUT")),
    (("convert", "runs/tiny", "OUT", "--to", "safetensors"), ()),
    (("export", "minari", "data/tsp/uniform20", "OUT"), ()),
    (("import", "d4rl", "d4rl.hdf5", "--task", "toy/x"), ("--out", "OUT")),
    (("import", "text", "words.jsonl", "--text-size", "300"), ("--out", "OUT")),
    (("import", "coco", "coco"), ("--out", "OUT")),
    (("tasks", "--suite", "tsp", "--counts"), ()),
    (("generate", "runs/tiny", "--prompt", "the", "--max-tokens", "4"), ()),
)  # fmt: skip


def _state(folder: Path) -> set[tuple[str, int]]:
    """Names and sizes of the material; reports and plots beside results may come and change."""
    places = ("data", "runs/tiny", "ev/results.json", "words.jsonl", "tiny.yaml", "d4rl.hdf5")
    found = [p for place in places for p in ((folder / place), *(folder / place).rglob("*"))]
    return {(str(p), p.stat().st_size) for p in found if p.is_file() and ".index" not in str(p)}


def kills(folder: Path, count: int, seed: int, tick: Progress) -> Tally:
    """SIGKILL at random moments; the same command goes on, and ends with the same bytes."""
    rng, tally = random.Random(seed), Tally("kills", seed)
    done = 0
    while done < count:
        command, compared = rng.choice(_KILLED)
        material.clear(["fuzz-out"], folder)
        reference = run(command, folder, limit=300)
        wanted = _bytes(folder / "fuzz-out", compared)
        if reference.status != 0 or not wanted:
            raise RuntimeError(f"nothing to kill: {' '.join(command)}: {reference.err[-300:]}")
        material.clear(["fuzz-out"], folder)
        spent = 0
        while spent < 20 and done < count:
            moment = rng.uniform(0.0, 1.1 * reference.seconds)
            outcome = run(command, folder, limit=300, kill_after=moment)
            if outcome.status >= 0:  # it was through before
                if fault := fault_of(outcome):
                    tally.fail(f"{fault}: {' '.join(command)} after {spent} kills")
                break
            spent, done = spent + 1, done + 1
            tick(1)
        outcome = run(command, folder, limit=300)
        lost = _bytes(folder / "fuzz-out", compared) != wanted
        tally.add(outcome, f"{' '.join(command)} after {spent} kills", silent=lost)
    tally.trials = done
    return tally


_KILLED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("train", "tiny.yaml", "runs=fuzz-out", "training.num_steps=12"),
     ("tiny/checkpoints/step-00000012/model.safetensors",)),
    (("collect", "tsp/uniform20", "--episodes", "6", "--reference-episodes", "1",
      "--processes", "1", "--out", "fuzz-out"), ("tsp/uniform20/*.bin",)),
    (("import", "d4rl", "d4rl.hdf5", "--task", "toy/x", "--out", "fuzz-out"), ("*.bin",)),
    (("import", "text", "words.jsonl", "--text-size", "300", "--out", "fuzz-out"), ("*",)),
    (("import", "coco", "coco", "--out", "fuzz-out"), ("train/*.bin",)),
    (("import", "jat", "jat.parquet", "--task", "toy/y", "--out", "fuzz-out"), ("*.bin",)),
)  # fmt: skip


def _bytes(folder: Path, patterns: tuple[str, ...]) -> dict[str, bytes]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}
