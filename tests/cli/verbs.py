"""Every verb of the command line with its options: what is typed, the type, the default, the help.

    python tests/cli/verbs.py     writes data/verbs.json from today's code

`test_verbs.py` compares the two. Write it again only for a change that is meant, and say in
CHANGELOG.md what a user loses.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

FROZEN = Path(__file__).parent / "data" / "verbs.json"

Verbs = dict[str, dict[str, dict[str, Any]]]
"""Facts about a parameter, by the words that call its verb and by what is typed for it."""


def verbs() -> Verbs:
    """Walks the commands from `db1` on, groups included."""
    import typer.main

    from db1.cli.main import app

    found: Verbs = {}

    def walk(command: Any, words: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{words} {name}".strip())
        if words:
            found[words] = {_typed(parameter): _facts(parameter) for parameter in command.params}

    walk(typer.main.get_command(app), "")
    return found


def _typed(parameter: Any) -> str:
    """An option with its other names, or an argument's name."""
    return " ".join(sorted([*parameter.opts, *parameter.secondary_opts]))


def _facts(parameter: Any) -> dict[str, Any]:
    default = "computed" if callable(parameter.default) else parameter.default
    return {
        **_type(parameter),
        "default": json.loads(json.dumps(default, default=str)),
        "required": parameter.required,
        "many": bool(parameter.nargs != 1 or parameter.multiple),
        "flag": getattr(parameter, "is_flag", False),
        "help": parameter.help or "",
    }


def _type(parameter: Any) -> dict[str, Any]:
    """The type of one value, and the least and the most of a number."""
    if hasattr(parameter, "type"):  # typer before 0.29 has click's types
        names = {"text": "str", "integer": "int", "boolean": "bool", "path": "Path"}
        name = parameter.type.name.removesuffix(" range")
        name, limited = names.get(name, name), parameter.type
    else:
        hint = parameter.type_descriptor.annotation
        while inner := [part for part in typing.get_args(hint) if part is not type(None)]:
            hint = inner[0]
        name, limited = hint.__name__, parameter
    limits = {end: getattr(limited, end, None) for end in ("min", "max")}
    return {"type": name} | {end: limit for end, limit in limits.items() if limit is not None}


def differences(frozen: Verbs, found: Verbs) -> list[str]:
    """One line for each verb, option or fact that was lost, changed or added."""
    lines = []
    for words in frozen.keys() | found.keys():
        if words not in found or words not in frozen:
            lines.append(f"{'lost' if words in frozen else 'new'}: db1 {words}")
            continue
        was, now = frozen[words], found[words]
        for typed in was.keys() | now.keys():
            what = f"db1 {words} {typed}"
            if typed not in now or typed not in was:
                lines.append(f"{'lost' if typed in was else 'new'}: {what}")
                continue
            lines += [
                f"changed: {what}: {fact} {now[typed].get(fact)!r}, was {was[typed].get(fact)!r}"
                for fact in was[typed].keys() | now[typed].keys()
                if was[typed].get(fact) != now[typed].get(fact)
            ]
    return sorted(lines)


def freeze() -> None:
    """Writes the file, one option a line."""
    blocks = [
        f" {json.dumps(words)}: {{\n"
        + ",\n".join(f"  {json.dumps(t)}: {json.dumps(f)}" for t, f in sorted(typed.items()))
        + "\n }"
        for words, typed in sorted(verbs().items())
    ]
    FROZEN.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


if __name__ == "__main__":
    freeze()
