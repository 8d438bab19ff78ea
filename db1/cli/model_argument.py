"""The argument RUN of every verb that takes a model, and which of its weights are loaded where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from db1.checkpoint.hub import resolve_model_name
from db1.cli.device import checked_device
from db1.config import load_yaml
from db1.json_shape import parse_json_file
from db1.options import option

if TYPE_CHECKING:
    from db1.inference.load import LoadedRun

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
        content = parse_json_file(folder / "config.json")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


Run = Annotated[Path, typer.Argument(parser=model_folder, metavar="RUN", help=HELP)]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of a run, and the device that they are loaded onto.

    Args:
        checkpoint: Tag; None: the newest.
        device: torch device; None: CUDA where there is one.
    """

    checkpoint: str | None = option(None, "Checkpoint tag; default: the newest.")
    device: str | None = option(None, "cpu, cuda, cuda:1; default: a GPU.")

    def load(self, run: Path) -> LoadedRun:
        """The run with its model.

        Raises:
            ConfigError: No run, tag or device of these names.
            CheckpointError: Without a valid checkpoint.
        """
        from db1.inference.load import load_agent_parts, locate_model

        device = checked_device(self.device)
        folder, tag = locate_model(run, self.checkpoint)
        return load_agent_parts(folder, tag, device=device)
