"""Demonstrations of many tasks at once: every task in a process of its own.

A task that fails, or whose process dies (a simulator may crash), is reported; the others go on.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from db1.errors import ConfigError, Db1Error
from db1.experts.collect.task import CollectSummary, collect

TaskProgress = Callable[[str, int], None]
"""Called with (task id, episodes in its store)."""


class CollectManySummary(NamedTuple):
    """What `collect_many` has done.

    Args:
        summaries: One for each task that is complete, in the order in which they were given.
        failures: One line by task id, for the tasks that failed.
    """

    summaries: list[CollectSummary]
    failures: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CollectRequest:
    """What is wanted of one task; see `db1.experts.collect.collect`."""

    episodes: int
    action_noise: float = 0.0
    max_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class CollectJob:
    """What one process does."""

    task_id: str
    request: CollectRequest
    out: Path
    reference_episodes: int


@dataclass
class _Running:
    """The processes at work, by the pipe that each reports through."""

    jobs: dict[Connection, tuple[BaseProcess, str]] = field(default_factory=dict)

    def start(self, job: CollectJob) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, sender), daemon=True)
        process.start()
        sender.close()
        self.jobs[receiver] = (process, job.task_id)

    def end(self, receiver: Connection) -> int | None:
        """Waits for one process; returns its exit code."""
        process, _ = self.jobs.pop(receiver)
        process.join()
        receiver.close()
        return process.exitcode

    def stop(self) -> None:
        for process, _ in self.jobs.values():
            process.terminate()
        for receiver in list(self.jobs):
            self.end(receiver)


def collect_many(
    requests: Mapping[str, CollectRequest],
    out: Path,
    *,
    reference_episodes: int = 20,
    processes: int = 2,
    progress: TaskProgress | None = None,
) -> CollectManySummary:
    """Collects several tasks, `processes` of them at a time; see `collect`.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        requests: What is wanted, by task id.
        out: Folder that holds the stores of all tasks.
        reference_episodes: As in `collect`.
        processes: Tasks collected at the same time.
        progress: Called in this process after every episode.
    """
    if processes < 1:
        raise ConfigError(f"processes: got {processes}, expected at least 1")
    waiting = deque(
        CollectJob(
            task_id=task_id,
            request=request,
            out=Path(out),
            reference_episodes=reference_episodes,
        )
        for task_id, request in requests.items()
    )
    outcomes: dict[str, CollectSummary | str] = {}
    running = _Running()
    try:
        while waiting or running.jobs:
            while waiting and len(running.jobs) < processes:
                running.start(waiting.popleft())
            for receiver in wait(list(running.jobs)):
                _receive(receiver, running, outcomes, progress)
    finally:
        running.stop()
    found = [(task_id, outcomes[task_id]) for task_id in requests]
    return CollectManySummary(
        summaries=[result for _, result in found if isinstance(result, CollectSummary)],
        failures={task: result for task, result in found if isinstance(result, str)},
    )


def _receive(
    receiver: Connection,
    running: _Running,
    outcomes: dict[str, CollectSummary | str],
    progress: TaskProgress | None,
) -> None:
    """Takes one message; an ended pipe without an outcome means that the process died."""
    task_id = running.jobs[receiver][1]
    try:
        message = receiver.recv()
    except EOFError:
        code = running.end(receiver)
        outcomes.setdefault(
            task_id,
            f"{task_id}: the process ended with status {code} without a result; run it alone "
            f"to see why (stored episodes are kept)",
        )
        return
    if isinstance(message, int):
        if progress is not None:
            progress(task_id, message)
    else:
        outcomes[task_id] = message


def _work(job: CollectJob, sender: Connection) -> None:
    """Runs in the child: sends the number of episodes as it grows, then a summary or an error."""
    try:
        result: CollectSummary | str = collect(
            job.task_id,
            job.request.episodes,
            job.out,
            action_noise=job.request.action_noise,
            max_steps=job.request.max_steps,
            reference_episodes=job.reference_episodes,
            progress=sender.send,
        )
    except Db1Error as error:
        result = str(error)
    except Exception as error:  # a bug, of db1 or of a simulator: the other tasks go on
        result = f"{job.task_id}: {type(error).__name__}: {error}"
    sender.send(result)
    sender.close()
