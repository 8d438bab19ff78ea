"""One worker process and its supervisor: it answers requests, and costs nothing but itself.

    this process                        worker, in `serve_requests`
    send(request)           -->         ("started", None)
                            <--         ("report", value)      any number of times: it is alive
    receive() / message()   <--         ("result", value) or ("failure", text) or ("bug", text)

A worker that is silent for too long is killed with everything that it started. It dies with the
process that started it. Nothing here imports torch, so a worker starts fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from db1.errors import DataError, Db1Error

START = 120.0
"""Seconds that a fresh process has to import what its first request needs, besides the timeout."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Report = Callable[[Any], None]
"""Called in the worker; its argument reaches the supervisor and proves that the worker is alive."""

Answer = Callable[[Any, Report], Any]
"""Computes the result of a request."""

Serve = Callable[[Connection], None]
"""The worker's main function, of a module; it calls `serve_requests`."""


class ProcessLost(DataError):
    """A worker process died or hung."""


class SupervisedProcess:
    """A worker, seen from the process that uses it.

    The process is spawned: a script that starts one needs `if __name__ == "__main__":`.

    Args:
        serve: What the worker runs.
    """

    def __init__(self, serve: Serve) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (serve, theirs, os.getpid())
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._heard = time.monotonic() + START
        self._ending = threading.Lock()

    @property
    def silence(self) -> float:
        """Seconds since its last sign of life or request; negative while it may still start."""
        return time.monotonic() - self._heard

    def send(self, request: Any) -> None:
        """Asks for something."""
        self._heard = max(self._heard, time.monotonic())
        with contextlib.suppress(BrokenPipeError, OSError):  # it died: its end of the pipe tells
            self.connection.send(request)

    def message(self) -> tuple[str, Any]:
        """Takes one message, as soon as there is one.

        Raises:
            ProcessLost: When the worker died.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError, OSError) as error:
            self._process.join(timeout=5)
            raise ProcessLost(
                f"the process ended with status {self._process.exitcode} without a result"
            ) from error
        self._heard = time.monotonic()
        return message

    def receive(self, timeout: float) -> Any:
        """Waits for the answer to a request.

        Args:
            timeout: Seconds without a sign of life after which the worker counts as hanging.

        Raises:
            ProcessLost: When the worker died, or hangs.
            DataError: For what was raised there.
        """
        while True:
            try:
                is_heard = self.connection.poll(max(0.0, timeout - self.silence))
            except (EOFError, OSError):
                is_heard = True  # `message` tells how it ended
            if not is_heard:
                raise silent(timeout)
            kind, value = self.message()
            if kind in ("failure", "bug"):
                raise DataError(value)
            if kind == "result":
                return value

    def kill(self) -> None:
        """Ends the process and all that it started; any thread may call it, more than once."""
        with self._ending:
            if self.connection.closed:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid or 0, signal.SIGKILL)
            if self._process.exitcode is None:
                self._process.kill()
            self._process.join()
            self.connection.close()


def silent(timeout: float) -> ProcessLost:
    """The error of a worker that gave no sign of life for `timeout` seconds."""
    return ProcessLost(f"no sign of life for {timeout:g} s (--timeout); killed")


def serve_requests(connection: Connection, answer: Answer) -> None:
    """Answers one request after the other until the parent closes the pipe; runs in the worker."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = connection.recv()
            connection.send(("started", None))
            report = _reporter(connection)
            connection.send(_outcome(answer, request, report))


def _reporter(connection: Connection) -> Report:
    return lambda value: connection.send(("report", value))


def _outcome(answer: Answer, request: Any, report: Report) -> tuple[str, Any]:
    try:
        return "result", answer(request, report)
    except BrokenPipeError:
        raise
    except Db1Error as error:
        return "failure", str(error)
    except Exception as error:  # of db1 or of a simulator: the other work goes on
        return "bug", f"{type(error).__name__}: {error}"


def _run(serve: Serve, connection: Connection, parent: int) -> None:
    os.setpgid(0, 0)  # what a simulator starts ends together with this process
    _die_with(parent)
    serve(connection)


def _die_with(parent: int) -> None:
    """Asks Linux to kill this process when its parent ends, even while a simulator hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
