"""The verb `db1 inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    what: Annotated[Path, typer.Argument(help="A store folder or an experiment's YAML file.")],
    override: Annotated[list[str] | None, typer.Argument(help="key=value for a YAML file.")] = None,
    step: Annotated[int, typer.Option(help="Training step.", min=0)] = 0,
    slot: Annotated[int, typer.Option(help="Sequence inside the step's batch.", min=0)] = 0,
) -> None:
    """Checks and describes a store, or shows one training sequence token by token.

    Example: db1 inspect data/db1_tiny/tsp/uniform20

    Example: db1 inspect configs/db1_tiny.yaml --step 10 --slot 3
    """
    from db1.cli.inspection import show_sequence, show_store

    if what.is_dir():
        show_store(what)
    else:
        show_sequence(what, override or [], step, slot)


VERBS = {"inspect": inspect}
