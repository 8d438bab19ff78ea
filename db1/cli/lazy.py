"""The group of all verbs: it imports a verb's module when the verb runs, and not before."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand

from db1.cli.table import VERBS
from db1.cli.verbs import Verb, VerbGroup


class LazyVerbs(VerbGroup):
    """Knows the verbs by `db1.cli.table`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, without importing anything."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Stand-in for a verb in the help: its line of the table."""
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        return TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb to run, imported now."""
        if args and args[0] in VERBS:
            return args[0], self.commands[args[0]], args[1:]
        return super().resolve_command(ctx, args)


class _Commands(dict[str, Any]):
    """Commands by name; one is made when it is asked for."""

    def __missing__(self, name: str) -> Any:
        self[name] = load_command(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def keys(self) -> Any:
        """All names."""
        return VERBS.keys()

    def items(self) -> Any:
        """All verbs, imported."""
        return [(name, self[name]) for name in VERBS]

    def values(self) -> Any:
        """All verbs, imported."""
        return [self[name] for name in VERBS]


def load_command(name: str) -> Any:
    """The command of a verb or of a group of verbs.

    Args:
        name: As it is typed.
    """
    module = importlib.import_module(f"db1.cli.{VERBS[name].module}")
    group = getattr(module, "APPS", {}).get(name)
    if group is not None:
        command = typer.main.get_group(group)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name, cls=Verb)(module.VERBS[name])
        command = typer.main.get_command(alone)
    command.name = name
    return command
