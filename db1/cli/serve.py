"""The verb `db1 serve`: a model behind HTTP for many clients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from db1.cli.device import Device, checked_device
from db1.cli.model_argument import Checkpoint, Run


def serve(
    run: Run,
    task: Annotated[str | None, typer.Option(help="suite/task of sessions that name none.")] = None,
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 8765,
    host: Annotated[
        str, typer.Option(help="Address; any but this machine's own needs --token-file.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that clients must send.")
    ] = None,
    max_sessions: Annotated[int, typer.Option(help="Sessions at once.", min=1)] = 64,
    idle: Annotated[
        float, typer.Option(help="Seconds after which a silent session ends.", min=0.1)
    ] = 300.0,
    window: Annotated[
        float, typer.Option(help="Milliseconds that a forward pass waits for more.", min=0)
    ] = 2.0,
    precision: Annotated[
        str, typer.Option(help="Of the model: float32, float64, bfloat16 or float16.")
    ] = "float32",
    checkpoint: Checkpoint = None,
    threads: Annotated[
        int | None, typer.Option(help="torch threads; default: one a core.", min=1)
    ] = None,
    device: Device = None,
) -> None:
    """Serves a model: sessions of many clients at once, batched into one forward pass.

    HTTP with JSON or msgpack, a WebSocket, /health and /metrics (docs/serving.md). The Python
    client is db1.client, a drop-in agent. Ctrl-C ends it.

    Example: db1 serve runs/db1_tiny --port 8765

    Example: db1 serve base --task babyai/GoToLocal --host 0.0.0.0 --token-file token.txt
    """
    import torch

    from db1.evaluation.settings import EvaluationConfig
    from db1.inference.load import load_agent_parts, locate_model
    from db1.runtime import usable_cores
    from db1.serving.server import ServerConfig, read_token, serve
    from db1.serving.sessions import ServiceConfig

    config = ServerConfig(
        host=host,
        port=port,
        task=task,
        token=None if token_file is None else read_token(token_file),
        service=ServiceConfig(
            max_sessions=max_sessions, idle_seconds=idle, window=window / 1000, max_rows=64
        ),
    )
    precision = EvaluationConfig(precision=precision).precision
    torch.set_num_threads(threads or usable_cores())
    folder, tag = locate_model(run, checkpoint)
    loaded = load_agent_parts(folder, tag, device=checked_device(device))
    loaded.model.to(getattr(torch, precision))
    if task is not None and task not in loaded.specs:
        from db1.suites import parse_task_id

        parse_task_id(task)
    serve(loaded, config, lambda address: typer.echo(f"serving: {address}"))


VERBS = {"serve": serve}
