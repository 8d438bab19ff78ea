"""The verbs `db1 bench WHAT`: side-by-side measurements that print ratios."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True, help="Measures db1 side by side with a reference; prints ratios."
)


@app.command("decode")
def decode() -> None:
    """Acting with cached keys and values against recomputing the memory at each token."""


@app.command("data")
def data() -> None:
    """Loader, index builder and stores against their references."""
