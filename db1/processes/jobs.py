"""Jobs in worker processes: a job whose process crashes or hangs costs itself alone.

A worker takes one job after another of the same group (a suite), so that its packages are imported
once. When it dies, or is silent for `timeout` seconds, it is killed with everything it started, its
job is tried again in a fresh worker, and the other jobs go on.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from db1.errors import ConfigError
from db1.processes.supervised import (
    ProcessLost,
    Report,
    SupervisedProcess,
    serve_requests,
    silent,
)

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks for silent workers."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work.

    Args:
        key: Name, different for every job.
        group: Jobs of one group may share a process.
        work: Function of a module, called with `argument` and a `Report`.
        argument: What `work` needs; it is pickled.
    """

    key: str
    group: str
    work: Callable[[Any, Report], Any]
    argument: Any


class Outcomes(NamedTuple):
    """Outcome of `run_jobs`: results by key, and one line by key of each job that failed."""

    results: dict[str, Any]
    failures: dict[str, str]


def run_jobs(
    jobs: Sequence[Job],
    *,
    processes: int,
    timeout: float,
    retries: int = 1,
    on_report: Callable[[str, Any], None] | None = None,
    on_result: Callable[[str, Any], None] | None = None,
) -> Outcomes:
    """Runs jobs, `processes` of them at a time.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        jobs: What is to be done, in this order.
        processes: Jobs at once.
        timeout: Seconds a job may take between two reports.
        retries: How often a job is tried again whose process died or hung. A job that raises is
            not: it would raise again.
        on_report: Called here with (key, what the job reported).
        on_result: Called here with (key, result) as soon as a job is done.

    Raises:
        ConfigError: For no process or no time.
    """
    if processes < 1:
        raise ConfigError(f"processes: got {processes}, expected at least 1")
    if not timeout > 0:
        raise ConfigError(f"timeout: got {timeout} seconds, expected more than 0")
    pool = _Pool(jobs, processes, timeout, retries)
    try:
        while pool.assign():
            for key, (kind, value) in pool.messages():
                if kind == "report" and on_report is not None:
                    on_report(key, value)
                elif kind == "result" and on_result is not None:
                    on_result(key, value)
    finally:
        pool.stop()
    return Outcomes(pool.results, pool.failures)


class _Worker:
    """One process and the job it has."""

    def __init__(self, group: str) -> None:
        self.process = SupervisedProcess(_serve)
        self.group = group
        self.job: Job | None = None

    def give(self, job: Job) -> None:
        """Starts a job."""
        self.job = job
        self.process.send(job)


class _Pool:
    """The workers, the jobs that wait, and what became of the others."""

    def __init__(self, jobs: Sequence[Job], processes: int, timeout: float, retries: int) -> None:
        self.results: dict[str, Any] = {}
        self.failures: dict[str, str] = {}
        self._waiting = deque(jobs)
        self._processes, self._timeout, self._retries = processes, timeout, retries
        self._workers: list[_Worker] = []
        self._tries: Counter[str] = Counter()

    def assign(self) -> bool:
        """Gives waiting jobs to free workers; False when nothing is left to do."""
        while self._waiting and (worker := self._free_worker(self._waiting[0].group)):
            job = self._waiting.popleft()
            self._tries[job.key] += 1
            worker.give(job)
        return any(worker.job for worker in self._workers)

    def messages(self) -> list[tuple[str, tuple[str, Any]]]:
        """Waits for messages of the workers: (key, (kind, value)); kills silent workers."""
        busy = {worker.process.connection: worker for worker in self._workers if worker.job}
        found = []
        for connection in wait(list(busy), timeout=POLL):
            message = self._receive(busy[connection])  # type: ignore[index]
            if message is not None:
                found.append(message)
        for worker in [w for w in self._workers if w.job]:
            if worker.process.silence > self._timeout:
                self._lost(worker, silent(self._timeout))
        return found

    def stop(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.process.kill()
        self._workers.clear()

    def _free_worker(self, group: str) -> _Worker | None:
        idle = [worker for worker in self._workers if worker.job is None]
        for worker in idle:
            if worker.group == group:
                return worker
        if len(self._workers) >= self._processes:
            if not idle:
                return None
            idle[0].process.kill()
            self._workers.remove(idle[0])
        self._workers.append(_Worker(group))
        return self._workers[-1]

    def _receive(self, worker: _Worker) -> tuple[str, tuple[str, Any]] | None:
        """Takes one message; an ended pipe means that the process died."""
        job = worker.job
        if job is None:
            return None
        try:
            kind, value = worker.process.message()
        except ProcessLost as error:
            self._lost(worker, error)
            return None
        if kind == "bug":
            kind, value = "failure", f"{job.key}: {value}"
        if kind in ("result", "failure"):
            worker.job = None
            (self.results if kind == "result" else self.failures)[job.key] = value
        return job.key, (kind, value)

    def _lost(self, worker: _Worker, why: ProcessLost) -> None:
        """Queues the job of a dead or silent worker again, or gives it up."""
        worker.process.kill()
        self._workers.remove(worker)
        job, worker.job = worker.job, None
        if job is None:
            return
        tries = self._tries[job.key]
        if tries <= self._retries:
            logger.warning("%s: %s; trying again", job.key, why)
            self._waiting.append(job)
            return
        times = f" ({tries} times)" if tries > 1 else ""
        self.failures[job.key] = f"{job.key}: {why}{times}; run it alone to see why"


def _serve(connection: Connection) -> None:
    """Runs job after job in the worker."""
    serve_requests(connection, lambda job, report: job.work(job.argument, report))
