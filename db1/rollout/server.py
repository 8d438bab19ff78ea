"""Worker process of a rollout: it holds environments, or plays whole episodes.

    request                          what happens                       answer
    ("reset", task, [(row, seed)])   makes and resets environments      {row: observation}
    ("step", task, [(row, action)])  steps them                         {row: step result}
    ("play", task, policy, ...)      episodes one after the other       [EpisodeResult]
    ("close",)                       ends all environments              None

A worker that works gives a sign of life every second. Nothing here imports torch, so that a worker
starts fast.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from db1.processes.supervised import Report, serve_requests
from db1.rollout.episode import EpisodeResult
from db1.rollout.loop import rollout
from db1.rollout.policies import make_model_free_policy
from db1.suites import TaskEnv, make_env

SIGN_OF_LIFE = 1.0
"""Seconds between two signs of life of a working worker."""


def serve_environments(connection: Connection) -> None:
    """Answers the requests of a `WorkerPool`."""
    serve_requests(connection, _Server().answer)


class _Server:
    """The environments of one worker."""

    def __init__(self) -> None:
        self._task_id = ""
        self._envs: dict[int, TaskEnv] = {}
        self._spoke = time.monotonic()
        self._report: Report = lambda value: None

    def answer(self, request: tuple[Any, ...], report: Report) -> Any:
        """Calls the method that a request names."""
        self._report = report
        command, *arguments = request
        return getattr(self, command)(*arguments)

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
    ) -> list[EpisodeResult]:
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
            self._report(None)
