"""Verbs about data: `db1 collect`, `db1 import`, `db1 inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from db1.errors import ConfigError


def collect(
    task: Annotated[list[str] | None, typer.Argument(help="Task ids.")] = None,
    config: Annotated[Path | None, typer.Option(help="All that this YAML needs.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes a task.", min=1)] = 100,
    out: Annotated[Path, typer.Option(help="Folder of the stores.")] = Path("data/demonstrations"),
    action_noise: Annotated[
        float, typer.Option(help="Noise on executed actions; the expert's stay recorded.", min=0.0)
    ] = 0.0,
    max_steps: Annotated[
        int | None, typer.Option(help="Cut demonstrations off after these steps.", min=1)
    ] = None,
    reference_episodes: Annotated[
        int, typer.Option(help="Episodes that measure the random and expert returns.", min=1)
    ] = 20,
    processes: Annotated[int, typer.Option(help="Tasks collected at once.", min=1)] = 2,
) -> None:
    """Makes demonstrations with the tasks' experts; an interrupted run goes on where it stopped.

    With --config, makes all demonstrations and text stores that the experiment's `data` needs.

    Example: db1 collect tsp/uniform20 metaworld/reach-v3 --episodes 50 --out data/try

    Example: db1 collect --config configs/db1_tiny.yaml
    """
    from db1.cli.prepare import collect_config, collect_tasks
    from db1.experts.collect import CollectRequest

    if (config is None) == (not task):
        raise ConfigError("collect: give either task ids or --config FILE (see db1 collect --help)")
    if config is not None:
        collect_config(config, processes=processes, reference_episodes=reference_episodes)
        return
    request = CollectRequest(episodes=episodes, action_noise=action_noise, max_steps=max_steps)
    requests = dict.fromkeys(task or [], request)
    collect_tasks(requests, out, processes=processes, reference_episodes=reference_episodes)


def import_(
    kind: Annotated[str, typer.Argument(help="text")],
    source: Annotated[str, typer.Argument(help="`kjv`, or a .txt or .jsonl file.")],
    out: Annotated[Path, typer.Option(help="Folder of the new store.")],
    text_size: Annotated[int, typer.Option(help="Ids of the tokenizer to train.", min=257)] = 2048,
    tokenizer: Annotated[Path | None, typer.Option(help="Use this tokenizer instead.")] = None,
) -> None:
    """Imports foreign data into a store of db1.

    Example: db1 import text my_corpus.jsonl --out data/my_corpus --text-size 8192
    """
    from db1.cli.prepare import describe_text
    from db1.sources.text import prepare_text
    from db1.tokens.text import TextTokenizer

    if kind != "text":
        raise ConfigError(f"import: got kind {kind!r}, expected text")
    given = TextTokenizer.load(tokenizer) if tokenizer else None
    summary = prepare_text(source, out, vocabulary_text_size=text_size, tokenizer=given)
    Console().print(describe_text(out.name, summary), soft_wrap=True)


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


VERBS = {"collect": collect, "import": import_, "inspect": inspect}
