"""The verb `db1 collect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db1.cli.console import Console
from db1.errors import ConfigError


def collect(
    task: Annotated[list[str] | None, typer.Argument(help="Task ids.")] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="All tasks of this suite that have an expert and run here (repeatable)."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="All that this YAML needs.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes a task.", min=1)] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the stores; default: data/demonstrations, or the YAML's data.root."
        ),
    ] = None,
    action_noise: Annotated[
        float, typer.Option(help="Noise on executed actions; the expert's stay recorded.", min=0.0)
    ] = 0.0,
    max_steps: Annotated[
        int | None, typer.Option(help="Cut demonstrations off after these steps.", min=1)
    ] = None,
    reference_episodes: Annotated[
        int, typer.Option(help="Episodes that measure the random and expert returns.", min=1)
    ] = 20,
    expert: Annotated[
        str | None,
        typer.Option(
            help="An expert of your own: module:function or file.py:function (observation -> "
            "action), a .zip of Stable-Baselines3, or WEIGHTS@file.py:Class as CleanRL has them."
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Tasks collected at once.", min=1)] = 2,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds an episode may take; then it is killed and tried once more."),
    ] = 1800.0,
) -> None:
    """Makes demonstrations with the tasks' experts; an interrupted run goes on where it stopped.

    With --config, makes all demonstrations and text stores that the experiment's `data` needs.

    Example: db1 collect tsp/uniform20 metaworld/reach-v3 --episodes 50 --out data/try

    Example: db1 collect --suite metaworld --suite tsp --episodes 100 --processes 8

    Example: db1 collect --config configs/db1_tiny.yaml

    Example: db1 collect gym/my_environment:Lamp-v0 --expert my_expert.py:act --episodes 20
    """
    from db1.cli.prepare import chosen_requests, collect_config, collect_tasks
    from db1.collection import CollectRequest

    if (config is None) == (not task and not suite):
        raise ConfigError(
            "collect: give either task ids and --suite, or --config FILE (see db1 collect --help)"
        )
    if config is not None:
        if expert is not None:
            raise ConfigError("--expert goes with task ids; --config takes the tasks' own experts")
        collect_config(
            config,
            out,
            processes=processes,
            reference_episodes=reference_episodes,
            timeout=timeout,
        )
        return
    request = CollectRequest(
        episodes=episodes, action_noise=action_noise, max_steps=max_steps, expert=expert
    )
    requests = chosen_requests(task or [], suite or [], request, Console())
    collect_tasks(
        requests,
        out or Path("data/demonstrations"),
        processes=processes,
        reference_episodes=reference_episodes,
        timeout=timeout,
    )


VERBS = {"collect": collect}
