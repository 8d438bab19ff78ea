"""The argument RUN of every verb that takes a model, and the option --checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from db1.checkpoint.hub import resolve_model_name
from db1.config import load_yaml
from db1.json_shape import parse_json

HELP = "A run folder, a safetensors folder, the published checkpoint, hf://user/name, or base."


def model_folder(place: str) -> Path:
    """The folder of a model that somebody names, `-` for none; loads the plug-ins of the run."""
    from db1.suites.plugins import load_run_plugins

    if place == "-":
        return Path(place)
    folder = resolve_model_name(place)
    load_run_plugins(_configuration(folder))
    return folder


def _configuration(folder: Path) -> dict[str, Any]:
    """A model's configuration; {} where there is none that can be read: loading it will tell."""
    if (folder / "config.yaml").is_file():
        return load_yaml(folder / "config.yaml", is_own=False)
    try:
        content = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


Run = Annotated[Path, typer.Argument(parser=model_folder, metavar="RUN", help=HELP)]

Checkpoint = Annotated[str | None, typer.Option(help="Tag; default: the newest.")]
