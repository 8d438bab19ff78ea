"""The verb `db1 demo`: a local page around a run."""

from __future__ import annotations

from typing import Annotated

import typer

from db1.cli.model_argument import Run, Weights
from db1.cli.options import from_dataclasses
from db1.demo.session import DemoConfig, DemoSession
from db1.runtime import draw_off_screen


@from_dataclasses
def demo(
    run: Run,
    config: DemoConfig,
    weights: Weights,
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0: any free port.", min=0, max=65_535)
    ] = 7860,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Opens a page on this machine: chat, caption an image, ask about it, watch the run act.

    Nothing is fetched from elsewhere, and only this machine can open the page. Ctrl-C ends.

    Example: db1 demo runs/db1_tiny

    Example: db1 demo runs/db1_tiny --port 0 --open
    """
    draw_off_screen()
    from db1.demo.server import serve

    def started(address: str) -> None:
        typer.echo(f"demo: {address} (Ctrl-C ends)")
        if open_browser:
            typer.launch(address)

    serve(DemoSession(weights.load(run), config), port, started)


VERBS = {"demo": demo}
