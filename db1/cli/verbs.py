"""Checks that all verbs share: numbers are finite, paths are not empty.

app.command(name, cls=Verb)(function)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from db1.ranges import RangeError, check_number


class _Checked:
    """Checks what was given before a verb runs."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Reads the command line as ever, then checks it."""
        given = list(args)
        rest = super().parse_args(ctx, args)  # type: ignore[misc]
        if not ctx.resilient_parsing:
            check_options(ctx, self._texts(ctx, given))
        return rest

    def _texts(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """What was typed, by parameter."""
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))  # type: ignore[attr-defined]
        return dict(typed)


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


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else (value,)
