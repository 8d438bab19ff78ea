"""One worker process that holds environments, or plays whole episodes with a policy of its own.

    this process                     worker
    ("reset", task, [(row, seed)])   makes and resets environments      -> {row: observation}
    ("step", task, [(row, action)])  steps them                         -> {row: step result}
    ("play", task, policy, ...)      episodes one after the other       -> [Played]
    ("close",)                       ends all environments              -> None

A worker that works gives a sign of life every second; one that is silent for too long is killed. It
dies with the process that started it. Nothing here imports torch, so a worker starts fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from db1.errors import DataError, Db1Error
from db1.suites import TaskEnv, make_env

START = 120.0
"""Seconds that a fresh process has to import what its first task needs, besides the timeout."""

SIGN_OF_LIFE = 1.0
"""Seconds between two signs of life of a working worker."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class EnvironmentLost(DataError):
    """A worker process died or hung."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What one episode came to.

    Args:
        seed: Seed of the environment.
        total_reward: Undiscounted return.
        length: Steps.
        success: Whether any step succeeded; None where the task does not tell.
    """

    seed: int
    total_reward: float
    length: int
    success: bool | None


class EnvironmentProcess:
    """A worker, seen from the process that uses it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()
        self._grace = START
        self._ending = threading.Lock()

    def send(self, command: str, *arguments: Any) -> None:
        """Asks for something; `receive` gives the answer."""
        with contextlib.suppress(BrokenPipeError, OSError):  # it died: `receive` will tell
            self._connection.send((command, *arguments))

    def receive(self, timeout: float, task_id: str) -> Any:
        """Waits for the answer.

        Args:
            timeout: Seconds without a sign of life after which the worker counts as hanging.
            task_id: Named in errors.

        Raises:
            EnvironmentLost: When the worker died, or hangs.
            DataError: What the environment raised.
        """
        while True:
            try:
                if not self._connection.poll(timeout + self._grace):
                    raise EnvironmentLost(
                        f"{task_id}: its environment gave no sign of life for {timeout:g} s "
                        f"(--timeout)"
                    )
                kind, value = self._connection.recv()
            except (EOFError, ConnectionResetError, OSError) as error:
                self._process.join(timeout=5)
                raise EnvironmentLost(
                    f"{task_id}: the process of its environment ended with status "
                    f"{self._process.exitcode}"
                ) from error
            if kind != "started":
                self._grace = 0.0
            if kind == "error":
                raise DataError(value)
            if kind == "result":
                return value

    def kill(self) -> None:
        """Ends the process and all that it started; any thread may say so, and more than once."""
        with self._ending:
            if self._connection.closed:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid or 0, signal.SIGKILL)
            if self._process.exitcode is None:
                self._process.kill()
            self._process.join()
            self._connection.close()


class _Server:
    """Runs in the worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._task_id = ""
        self._envs: dict[int, TaskEnv] = {}
        self._spoke = time.monotonic()

    def reset(self, task_id: str, pairs: Sequence[tuple[int, int]]) -> dict[int, Any]:
        if task_id != self._task_id:
            self.close()
            self._task_id = task_id
        observations = {}
        for row, seed in pairs:
            if row not in self._envs:
                self._envs[row] = make_env(task_id)
            observations[row] = self._envs[row].reset(seed=seed)[0]
            self.live()
        return observations

    def step(self, task_id: str, pairs: Sequence[tuple[int, Any]]) -> dict[int, Any]:
        results = {}
        for row, action in pairs:
            *result, info = self._envs[row].step(action)
            told = {"success": bool(info["success"])} if "success" in info else {}
            results[row] = (*result, told)
            self.live()
        return results

    def play(
        self,
        task_id: str,
        policy: dict[str, Any],
        seeds: Sequence[int],
        max_steps: int | None,
    ) -> list[Played]:
        from db1.rollout.loop import rollout
        from db1.rollout.policies import make_model_free_policy

        return rollout(
            task_id,
            make_model_free_policy(task_id, **policy),
            seeds,
            num_environments=1,
            max_steps=max_steps,
            after_step=self.live,
        )

    def close(self) -> None:
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def live(self) -> None:
        """Gives a sign of life, once a second at most."""
        now = time.monotonic()
        if now - self._spoke >= SIGN_OF_LIFE:
            self._spoke = now
            self._connection.send(("alive", None))


def _serve(connection: Connection, parent: int) -> None:
    """Answers until the parent closes the pipe."""
    os.setpgid(0, 0)  # what a simulator starts ends together with this process
    _die_with(parent)
    server = _Server(connection)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            command, *arguments = connection.recv()
            connection.send(("started", None))
            connection.send(_answer(server, command, arguments))


def _answer(server: _Server, command: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        return "result", getattr(server, command)(*arguments)
    except BrokenPipeError:
        raise
    except Db1Error as error:
        return "error", str(error)
    except Exception as error:  # a bug, of db1 or of a simulator: the other tasks go on
        return "error", f"{type(error).__name__}: {error}"


def _die_with(parent: int) -> None:
    """Asks Linux to kill this process when its parent ends, even while a simulator hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
