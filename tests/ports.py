"""A port for the processes of a test: `from ports import free_port`."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port of this machine that nobody listens on, below those that outgoing connections take.

    A port from the system (`bind` to 0) lies among the latter, and may be gone before it is used.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
