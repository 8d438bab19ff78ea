"""Serves a model until it is stopped."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from db1.errors import ConfigError, MissingExtra
from db1.evaluation.task import make_codec, spoken
from db1.inference.agent import Agent
from db1.inference.load import LoadedRun
from db1.options import option
from db1.ranges import Checked, Range
from db1.serving.app import make_app
from db1.serving.metrics import ServerMetrics
from db1.serving.sessions import Service, ServiceConfig
from db1.suites import parse_task_id
from db1.tokens.spec import StepSpec


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Checked):
    """Settings of the server of a model.

    Args:
        host: Address to listen on.
        port: 0: any free one.
        task: Of sessions that name none; None: they must.
        token: That clients must send; needed on any address but this machine's own.
        service: Limits.
    """

    host: str = option(
        "127.0.0.1", "Address to listen on; any but this machine's own needs --token-file."
    )
    port: Annotated[int, Range(least=0, most=65_535)] = option(8765, "Port; 0: any free port.")
    task: str | None = option(None, "suite/task of sessions that do not name one.")
    token: str | None = None
    service: ServiceConfig = field(default_factory=ServiceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host}: others can reach this address, so a token is needed; give "
                "--token-file FILE, or leave --host out to serve this machine alone"
            )


def is_loopback(host: str) -> bool:
    """Tells whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file, without white space around it.

    Raises:
        ConfigError: When it cannot be read, is short, or holds more than one line.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path}: cannot be read ({error})") from None
    if len(token) < 16 or not token.isascii() or any(c.isspace() for c in token):
        raise ConfigError(
            f"--token-file {path}: expected one line of at least 16 ASCII characters without "
            "spaces, such as `openssl rand -hex 16` prints"
        )
    return token


def make_service(loaded: LoadedRun, config: ServiceConfig, metrics: ServerMetrics) -> Service:
    """Sessions of a loaded model.

    Args:
        loaded: The model.
        config: Limits.
        metrics: Counts passes.
    """

    def spec_of(task: str) -> StepSpec:
        learned = loaded.specs.get(task)
        if learned is None:
            suite, name = parse_task_id(task)
            learned = suite.step_spec(name)
        make_codec(task, learned, loaded)
        return learned

    def make_agent(
        model: Any, task: str, spec: StepSpec, *, memory: int | None = None,
        greedy: bool = True, temperature: float = 1.0, instruction: str | None = None,
    ) -> Agent:  # fmt: skip
        return Agent(
            model,
            make_codec(task, spec, loaded),
            memory_length=loaded.context_length if memory is None else memory,
            batch_size=1,
            greedy=greedy,
            temperature=temperature,
            keep_probabilities=True,
            **spoken(task, instruction, loaded),
        )

    return Service(loaded.model, make_agent, spec_of, config, metrics.batch)


def serve(loaded: LoadedRun, config: ServerConfig, started: Callable[[str], None]) -> None:
    """Serves until interrupted.

    Args:
        loaded: The model.
        config: Where and how.
        started: Called with the server's address as soon as it answers.

    Raises:
        ConfigError: The port is taken, or the address is none of this machine.
        MissingExtra: A package of the extra `serve` is not installed.
    """
    try:
        import uvicorn
        import websockets  # noqa: F401  (uvicorn needs it for /stream)
    except ImportError as error:
        raise MissingExtra(error.name or "uvicorn", "serve", "db1 serve") from None
    metrics = ServerMetrics()
    service = make_service(loaded, config.service, metrics)
    about = {
        "model": str(loaded.folder),
        "checkpoint": loaded.tag,
        "tasks": sorted(loaded.specs),
        "max_sessions": config.service.max_sessions,
        "device": str(next(loaded.model.parameters()).device),
        "torch_threads": torch.get_num_threads(),
    }
    app = make_app(service, metrics, about, config.token, config.task)
    try:
        listening = socket.create_server((config.host, config.port), backlog=256)
    except OSError as error:
        raise ConfigError(
            f"--host {config.host} --port {config.port}: {error.strerror or error}; choose "
            "another, or port 0 for any free one"
        ) from None
    with listening:
        host, port = listening.getsockname()[:2]
        started(f"http://{host}:{port}")
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, ws_max_size=MAX_MESSAGE,
            limit_concurrency=4 * config.service.max_sessions + 64, timeout_keep_alive=75,
        )  # fmt: skip
        try:
            uvicorn.Server(settings).run(sockets=[listening])
        finally:
            service.stop()


MAX_MESSAGE = 8 * 2**20
"""Bytes of a message of a stream."""
