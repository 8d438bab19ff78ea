"""Checks that all verbs share: numbers are finite, paths are not empty.

app.command(name, cls=Verb)(function)
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from db1.ranges import RangeError, check_number

NEEDS = {
    "inspect": (("slot", "step"), ("full", "step")),
    "eval": (("temperature", "sample"),),
    "play": (("temperature", "sample"),),
    "report": (("film_megabytes", "html"),),
}
"""Options of a verb that mean nothing without another one."""

EXCLUDES = {
    "collect": tuple(
        ("config", other)
        for other in ("task", "suite", "episodes", "action_noise", "max_steps", "expert")
    ),
    "play": tuple(
        ("evaluation", other)
        for other in ("policy", "sample", "temperature", "seed", "prompt", "memory")
    ),
}
"""Options of a verb that have no effect with another one."""

INPUTS = frozenset(
    {
        "data",
        "run",
        "scores",
        "tokenizer",
        "evaluation",
        "prompt_file",
        "hostfile",
        "images",
        "text",
    }
)
"""Options that name what must be there already."""

_USAGE_ERROR = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


class _Checked:
    """Checks what was given before a verb runs."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["help"] = _joined(settings.get("help"))
        super().__init__(*args, **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Reads the command line as ever, then checks it."""
        given = list(args)
        try:
            rest = super().parse_args(ctx, args)  # type: ignore[misc]
        except _USAGE_ERROR as error:
            error.ctx = error.ctx or ctx
            if isinstance(error, typer.BadParameter) and error.param is not None:
                typed = self._texts(ctx, given).get(error.param.name)
                error.message = _explained(error.message, typed)
            raise
        if not ctx.resilient_parsing:
            check_options(ctx, self._texts(ctx, given))
        return rest

    def _texts(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """Typed texts by parameter."""
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))  # type: ignore[attr-defined]
        return dict(typed)


def _joined(text: str | None) -> str | None:
    """A docstring with one line a paragraph, which a terminal breaks where it ends."""
    if text is None:
        return None
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _explained(message: str, typed: Any) -> str:
    """Typer's words about a number, with what was typed: got 0, expected at least 1."""
    if not message.startswith("Input should be "):
        return message
    expected = message.removeprefix("Input should be ").partition(",")[0]
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"got {', '.join(map(str, _each(typed)))}, expected {expected}"


class Verb(_Checked, TyperCommand):
    """A verb."""


class VerbGroup(_Checked, TyperGroup):
    """A group of verbs, such as `db1 import`."""


def check_options(ctx: Any, typed: dict[str, Any]) -> None:
    """Checks the values of a verb's options and arguments.

    Args:
        ctx: Where they are.
        typed: What was typed, by parameter; a path forgets that it was empty.

    Raises:
        typer.BadParameter: A number is not finite or beyond 64 bits, or a path is empty.
    """
    by_name = {parameter.name: parameter for parameter in ctx.command.params}
    for name, value in ctx.params.items():
        for one in _each(value):
            if isinstance(one, int | float) and not isinstance(one, bool):
                try:
                    check_number(one, where="number")
                except RangeError as error:
                    reason = str(error).removeprefix("number: ")
                    raise typer.BadParameter(reason, ctx=ctx, param=by_name[name]) from None
        if any(isinstance(one, Path) for one in _each(value)) and "" in _each(typed.get(name)):
            raise typer.BadParameter("got an empty path", ctx=ctx, param=by_name[name])
    _check_together(ctx, by_name)


def _check_together(ctx: Any, by_name: dict[str, Any]) -> None:
    """Checks which options come together, and that named files are there."""
    given = {name for name in by_name if _is_given(ctx, name)}
    for option, other in NEEDS.get(ctx.command.name, ()):
        if option in given and other not in given:
            flag = by_name[other].opts[0]
            raise typer.BadParameter(f"needs {flag}", ctx=ctx, param=by_name[option])
    for option, other in EXCLUDES.get(ctx.command.name, ()):
        if option in given and other in given:
            flag = by_name[option].opts[0]
            raise typer.BadParameter(f"has no effect with {flag}", ctx=ctx, param=by_name[other])
    for name in sorted(given & INPUTS):
        is_option = by_name[name].param_type_name == "option"
        for one in _each(ctx.params.get(name)):
            if is_option and isinstance(one, Path) and not os.path.lexists(one):
                reason = f"{one}: no such file or folder"
                raise typer.BadParameter(reason, ctx=ctx, param=by_name[name])


def _is_given(ctx: Any, name: str) -> bool:
    """Tells whether an option was typed; by name, as both typer and click have the enum."""
    return getattr(ctx.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else (value,)
