"""Serves the page on this machine until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable

from db1.demo.app import make_app
from db1.demo.session import DemoSession
from db1.errors import ConfigError, MissingExtra

HOST = "127.0.0.1"


def serve(session: DemoSession, port: int, started: Callable[[str], None]) -> None:
    """Serves until interrupted.

    Args:
        session: The run.
        port: On 127.0.0.1; 0: any free one.
        started: Called with the page's address as soon as it can be opened.

    Raises:
        ConfigError: The port is taken.
        MissingExtra: Starlette or uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("uvicorn", "demo", "db1 demo") from None
    app = make_app(session)
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigError(
            f"--port {port}: {error.strerror or error}; choose another, or 0 for any free one"
        ) from None
    with listening:
        started(f"http://{HOST}:{listening.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
