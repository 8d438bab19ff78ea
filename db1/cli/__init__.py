"""The `db1` command: thin verbs that wire the rooms together."""

from db1.cli.main import main

__all__ = ["main"]
