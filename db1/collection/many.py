"""Demonstrations of many tasks at once, each in a worker process.

A task that fails, or whose process dies or hangs (a simulator may), is reported; the others go on.

The same call on several machines that share the folder divides the tasks: each is held by one
process at a time (`out/.claims`), what others hold is waited for at the end, and what a lost
machine held is taken over where its last episode ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from db1.collection.task import CollectSummary, collect
from db1.options import option
from db1.processes.claims import Claims
from db1.processes.jobs import Job, Report, run_jobs
from db1.ranges import Checked, Count, Natural, NonNegative, Positive, Range

logger = logging.getLogger(__name__)

TaskProgress = Callable[[str, int], None]
"""Called with (task id, episodes in its store)."""


class CollectManySummary(NamedTuple):
    """Outcome of `collect_many`.

    Args:
        summaries: One for each task that is complete, in the order in which they were given.
        failures: One line by task id, for the tasks that failed.
    """

    summaries: list[CollectSummary]
    failures: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CollectRequest(Checked):
    """Order for the demonstrations of one task; see `db1.collection.collect`."""

    episodes: Count = option(100, "Episodes per task.")
    action_noise: NonNegative = option(
        0.0, "Noise on executed actions; the expert's own are recorded."
    )
    max_steps: Count | None = option(None, "Cut demonstrations off after this many steps.")
    reference_episodes: Count = option(
        20,
        "Episodes of the random and of the expert return; measured where db1 has not as many.",
    )
    expert: str | None = option(
        None,
        "An expert of your own: module:function or file.py:function (observation -> action), a "
        ".zip of Stable-Baselines3, or WEIGHTS@file.py:Class as CleanRL has them.",
    )


@dataclass(frozen=True, kw_only=True)
class CollectExecution(Checked):
    """Processes of a collection; no demonstration depends on them.

    Args:
        processes: Tasks collected at the same time.
        timeout: Seconds an episode may take, then its process is killed; planners need minutes for
            a long one.
        retries: Times that a task goes on again after its process died or was killed.
    """

    processes: Annotated[int, Range(least=1, most=4_096)] = option(2, "Tasks collected at once.")
    timeout: Positive = option(
        1800.0, "Seconds per episode; after that it is killed and tried once more."
    )
    retries: Natural = 1


TWO_AT_ONCE = CollectExecution()
"""Two tasks at a time, with as much time for an episode as planners need."""


@dataclass(frozen=True, kw_only=True)
class CollectJob:
    """Job of one worker."""

    task_id: str
    request: CollectRequest
    out: Path
    waits: bool = False


def collect_many(
    requests: Mapping[str, CollectRequest],
    out: Path,
    execution: CollectExecution = TWO_AT_ONCE,
    *,
    progress: TaskProgress | None = None,
) -> CollectManySummary:
    """Collects several tasks, some of them at a time; see `collect`.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        requests: What is wanted, by task id.
        out: Folder that holds the stores of all tasks.
        execution: How many at a time, and how long an episode may take.
        progress: Called in this process after every episode.
    """
    results: dict[str, CollectSummary] = {}
    failures: dict[str, str] = {}

    def report(task_id: str, done: int | None) -> None:
        if progress is not None and done is not None:
            progress(task_id, done)

    for waits in (False, True):
        left = requests.keys() - results.keys() - failures.keys()
        if waits and left:
            logger.info("waiting for %d task(s) that other processes collect", len(left))
        outcomes = run_jobs(
            [_job(t, request, out, waits) for t, request in requests.items() if t in left],
            processes=execution.processes,
            timeout=execution.timeout,
            retries=execution.retries,
            on_report=report,
        )
        results |= {task: found for task, found in outcomes.results.items() if found is not None}
        failures |= outcomes.failures
    return CollectManySummary(
        summaries=[results[task_id] for task_id in requests if task_id in results],
        failures={task_id: failures[task_id] for task_id in requests if task_id in failures},
    )


def _job(task_id: str, request: CollectRequest, out: Path, waits: bool) -> Job:
    argument = CollectJob(task_id=task_id, request=request, out=Path(out), waits=waits)
    return Job(key=task_id, group=task_id.partition("/")[0], work=_work, argument=argument)


def _work(job: CollectJob, report: Report) -> CollectSummary | None:
    """Runs in a worker; None where another process has the task and this one does not wait."""
    claims = Claims.inside(job.out)
    if job.waits:
        with claims.wait(job.task_id, lambda: report(None)):
            return _collect(job, report)
    with claims.claim(job.task_id) as is_mine:
        return _collect(job, report) if is_mine else None


def _collect(job: CollectJob, report: Report) -> CollectSummary:
    """Reports the number of episodes as it grows, None for other ones."""
    request = job.request
    return collect(
        job.task_id,
        request.episodes,
        job.out,
        action_noise=request.action_noise,
        max_steps=request.max_steps,
        expert=request.expert,
        reference_episodes=request.reference_episodes,
        progress=report,
        alive=lambda: report(None),
    )
