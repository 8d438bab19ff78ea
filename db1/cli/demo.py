"""The verb `db1 demo`: a local page around a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db1.cli.device import checked_device
from db1.cli.model_argument import Run
from db1.runtime import draw_off_screen


def demo(
    run: Run,
    port: Annotated[
        int, typer.Option(help="On 127.0.0.1; 0: any free one.", min=0, max=65_535)
    ] = 7860,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of demonstrations that prime acting; default: the run's."),
    ] = None,
    beams: Annotated[int, typer.Option(help="Of captions.", min=1)] = 3,
    frames_per_second: Annotated[
        float, typer.Option("--fps", help="Most pictures of an episode a second.", min=0.1)
    ] = 20.0,
    checkpoint: Annotated[str | None, typer.Option(help="Tag; default: the newest.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU.")] = None,
) -> None:
    """Opens a page on this machine: chat, caption an image, ask about it, watch the run act.

    Nothing is fetched from elsewhere, and only this machine can open the page. Ctrl-C ends.

    Example: db1 demo runs/db1_tiny

    Example: db1 demo runs/db1_tiny --port 0 --open
    """
    draw_off_screen()
    from db1.demo.brain import Brain, DemoConfig
    from db1.demo.server import serve
    from db1.inference.load import load_agent_parts

    loaded = load_agent_parts(run, checkpoint, device=checked_device(device))
    config = DemoConfig(data=data, beams=beams, frames_per_second=frames_per_second)

    def started(address: str) -> None:
        typer.echo(f"demo: {address} (Ctrl-C ends)")
        if open_browser:
            typer.launch(address)

    serve(Brain(loaded, config), port, started)


VERBS = {"demo": demo}
