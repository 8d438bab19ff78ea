"""Pages of the documentation that are made from the code, each time the site is built.

    reference/commands.md        every verb with its arguments, options and examples
    reference/configuration.md   every key of an experiment's YAML: type, default, range, meaning
    reference/positions.md       the position encodings

MkDocs calls `on_files` (mkdocs.yml names this file as a hook); nothing is written into docs/.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MINIMAL = """name: cartpole
data:
  root: data/demonstrations
  tasks:
    classic_control/CartPole-v1: {}
training:
  num_steps: 300
  global_batch_size: 8
  micro_batch_size: 8
  learning_rate: 3.0e-3
"""
"""An experiment with nothing but what has no default; `tests/test_docs.py` loads it."""


def on_files(files: Any, config: Any) -> Any:
    """MkDocs' hook: enters the generated pages."""
    from mkdocs.structure.files import File

    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def pages() -> dict[str, str]:
    """All generated pages, Markdown by their place below docs/."""
    return {
        "reference/commands.md": commands(),
        "reference/configuration.md": configuration(),
        "reference/positions.md": positions(),
    }


def commands() -> str:
    """The command reference."""
    import typer.main

    from db1.cli.main import app
    from db1.cli.table import VERBS

    group = typer.main.get_command(app)
    parts = [
        "# Commands\n",
        "Made from the verbs themselves. Every verb has `--help`; `--debug` anywhere shows the "
        "traceback of an error, `--plugin PLACE` loads suites of your own.\n",
    ]
    for name in VERBS:
        parts += _verb(group.commands[name], name, 2)
    return "\n".join(parts)


def _verb(command: Any, words: str, level: int) -> Iterator[str]:
    said, examples = _split_examples(command.help or "")
    yield f"{'#' * level} db1 {words}\n"
    yield said + "\n"
    if examples:
        yield "```sh\n" + "\n".join(examples) + "\n```\n"
    shown = [p for p in command.params if p.name not in ("help", "context")]
    if shown:
        yield table(("what", "default", "meaning"), map(_parameter, shown))
    for name, inner in getattr(command, "commands", {}).items():
        yield from _verb(inner, f"{words} {name}", level + 1)


def _split_examples(text: str) -> tuple[str, list[str]]:
    """A docstring without its examples, and these."""
    first, *examples = text.split("Example: ")
    return first.strip(), [" ".join(e.split("\n\n")[0].split()) for e in examples]


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    if is_argument:
        name = (parameter.metavar or parameter.name).upper()
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default is None or default == [] or callable(default) or isinstance(default, bool):
        shown = {True: "on", False: "off"}.get(default, "") if isinstance(default, bool) else ""
    else:
        shown = f"`{default}`"
    return f"`{name}`", shown, getattr(parameter, "help", None) or ""


def configuration() -> str:
    """The configuration reference: every dataclass below ExperimentConfig."""
    from db1.training.experiment import ExperimentConfig

    parts = [
        "# Configuration\n",
        "One YAML file describes an experiment. `db1 train FILE key=value ...` changes any key; an "
        "unknown key, a wrong type or a number out of its range is one line that names it. This "
        "page is made from the dataclasses.\n",
        "The smallest that works, with everything else at its default:\n",
        f"```yaml\n{MINIMAL}```\n",
        "`configs/` has larger ones; [position encodings](positions.md) have their own page.\n",
    ]
    for path, kind in _sections(ExperimentConfig, ""):
        parts += _section(path, kind)
    return "\n".join(parts)


def _sections(kind: type[Any], path: str) -> Iterator[tuple[str, type[Any]]]:
    """Every dataclass with the dotted key below which its keys stand."""
    yield path, kind
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner, mark = _dataclass_in(hints[field.name])
        if inner is not None:
            yield from _sections(inner, f"{path}.{field.name}{mark}".lstrip("."))
    for key, inner in _EXTRA.get(kind.__name__, {}).items():
        yield from _sections(_load(inner), f"{path}.{key}.NAME".lstrip("."))


_EXTRA: Mapping[str, Mapping[str, str]] = {"DataConfig": {"suites": "db1.data.config:SuiteData"}}
"""Mappings whose type is not written in their annotation."""


def _load(place: str) -> Any:
    import importlib

    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _dataclass_in(hint: Any) -> tuple[type[Any] | None, str]:
    """The dataclass inside a type, and `.NAME` where it is the value of a mapping."""
    if dataclasses.is_dataclass(hint):
        return hint, ""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _dataclass_in(arguments[1])[0], ".NAME"
    if origin in (Union, types.UnionType):
        for one in arguments:
            found, mark = _dataclass_in(one)
            if found is not None:
                return found, mark
    return None, ""


def _section(path: str, kind: type[Any]) -> Iterator[str]:
    doc = inspect.getdoc(kind) or ""
    meanings = documented_fields(doc)
    yield f"## {path or 'The experiment'}\n"
    yield doc.split("\n\nArgs:")[0].split("\n\n")[0].replace("\n", " ") + "\n"
    hints = typing.get_type_hints(kind)
    rows = []
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        rows.append(
            (
                f"`{field.name}`",
                _type_name(hints[field.name]) + _range(kind, field.name),
                _default(field),
                meanings.get(field.name, ""),
            )
        )
    yield table(("key", "type", "default", "meaning"), rows)


def documented_fields(doc: str) -> dict[str, str]:
    """The `Args:` section of a Google docstring, by name; `a, b: text` counts for both."""
    _, _, section = doc.partition("Args:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\S)", "\n" + section):
        match = re.match(r"\s{4}([\w, ]+): (.*)", entry, re.DOTALL)
        if match:
            for name in match[1].split(", "):
                found[name.strip()] = " ".join(match[2].split())
    return found


def _type_name(hint: Any) -> str:
    """`int`, `str or null`, `mapping of TaskData`."""
    if hint is type(None):
        return "null"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(one) for one in arguments)
    if origin is None:
        return {"Path": "path", "Any": "any"}.get(getattr(hint, "__name__", ""), hint.__name__)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_type_name(arguments[1])}"
    inner = [_type_name(one) for one in arguments if one is not Ellipsis]
    return f"list of {', '.join(dict.fromkeys(inner))}"


def _range(kind: type[Any], name: str) -> str:
    from db1.ranges import range_of

    text = str(range_of(kind, name))
    return f", {text}" if text else ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return "null" if field.default is None else f"`{_yaml(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return "see below" if dataclasses.is_dataclass(made) else f"`{_yaml(made)}`"
    return "required"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    return "''" if value == "" else str(value)


def positions() -> str:
    """The position encodings: their classes' own words."""
    from db1.model.positions import POSITION_ENCODINGS

    rows = []
    for name in POSITION_ENCODINGS:
        doc = inspect.getdoc(POSITION_ENCODINGS[name]) or ""
        first = doc.split("\n\n")[0].replace("\n", " ")
        source = re.search(r"Source: (.*?)(?:\n\n|$)", doc, re.DOTALL)
        rows.append((f"`{name}`", first, " ".join(source[1].split()) if source else ""))
    return (
        "# Position encodings\n\n`model.position_encoding` names one of these "
        "(`db1/model/positions.py`); cached keys are never turned, so that a memory stays a "
        "function of hidden states.\n\n" + table(("name", "what it does", "source"), rows)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([_cell(c) for c in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(p if i % 2 else p.replace("<", "&lt;") for i, p in enumerate(parts))


if __name__ == "__main__":
    for _place, _text in pages().items():
        print(f"{_place}: {len(_text.splitlines())} lines")
