"""The verb `db1 serve`: a model behind HTTP for many clients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from db1.cli.model_argument import Run, Weights
from db1.cli.options import Given, Of, from_dataclasses
from db1.evaluation.settings import EvaluationConfig
from db1.runtime import usable_cores
from db1.serving.server import ServerConfig, read_token
from db1.serving.server import serve as serve_model
from db1.serving.sessions import ServiceConfig
from db1.suites import parse_task_id


@from_dataclasses
def serve(
    run: Run,
    server: Annotated[Given, Of(ServerConfig)],
    service: ServiceConfig,
    model: Annotated[EvaluationConfig, Of(EvaluationConfig, "precision")],
    weights: Weights,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that clients must send.")
    ] = None,
    window: Annotated[
        float,
        typer.Option(help="Milliseconds that a forward pass waits for further requests.", min=0),
    ] = 2.0,
    threads: Annotated[
        int | None, typer.Option(help="torch threads; default: one per core.", min=1)
    ] = None,
) -> None:
    """Serves a model: sessions of many clients at once, batched into one forward pass.

    HTTP with JSON or msgpack, a WebSocket, /health and /metrics (docs/serving.md). The Python
    client is db1.client, a drop-in agent. Ctrl-C ends it.

    Example: db1 serve runs/db1_tiny --port 8765

    Example: db1 serve base --task babyai/GoToLocal --host 0.0.0.0 --token-file token.txt
    """
    config = ServerConfig(
        **server,
        token=None if token_file is None else read_token(token_file),
        service=replace(service, window=window / 1000),
    )
    torch.set_num_threads(threads or usable_cores())
    loaded = weights.load(run)
    loaded.model.to(getattr(torch, model.precision))
    if config.task is not None and config.task not in loaded.specs:
        parse_task_id(config.task)
    serve_model(loaded, config, lambda address: typer.echo(f"serving: {address}"))


VERBS = {"serve": serve}
