"""The verb `db1 collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db1.cli.console import Console
from db1.cli.options import from_dataclasses
from db1.collection import CollectExecution, CollectRequest
from db1.errors import ConfigError


@from_dataclasses
def collect(
    request: CollectRequest,
    execution: CollectExecution,
    task: Annotated[list[str] | None, typer.Argument(help="Task ids.")] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="All tasks of this suite that have an expert and run here (repeatable)."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Everything that this experiment's YAML needs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the stores; default: data/demonstrations, or the YAML's data.root."
        ),
    ] = None,
) -> None:
    """Makes demonstrations with the tasks' experts; an interrupted run goes on where it stopped.

    With --config, makes all demonstrations and text stores that the experiment's `data` needs.

    Example: db1 collect tsp/uniform20 metaworld/reach-v3 --episodes 50 --out data/try

    Example: db1 collect --suite metaworld --suite tsp --episodes 100 --processes 8

    Example: db1 collect --config configs/db1_tiny.yaml

    Example: db1 collect gym/my_environment:Lamp-v0 --expert my_expert.py:act --episodes 20
    """
    from db1.cli.prepare import chosen_requests, collect_config, collect_tasks

    if (config is None) == (not task and not suite):
        raise ConfigError(
            "collect: give either task ids and --suite, or --config FILE (see db1 collect --help)"
        )
    if config is not None:
        collect_config(config, out, execution, reference_episodes=request.reference_episodes)
        return
    requests = chosen_requests(task or [], suite or [], request, Console())
    collect_tasks(requests, out or Path("data/demonstrations"), execution)


VERBS = {"collect": collect}
