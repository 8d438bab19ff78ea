"""Demonstrations of many tasks at once, each in a worker process.

A task that fails, or whose process dies or hangs (a simulator may), is reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from db1.collection.task import CollectSummary, collect
from db1.processes.jobs import Job, Report, run_jobs
from db1.ranges import Checked, Count, NonNegative

TaskProgress = Callable[[str, int], None]
"""Called with (task id, episodes in its store)."""
TIMEOUT = 1800.0
"""Seconds that an episode may take; planners need minutes for a long one."""


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

    episodes: Count
    action_noise: NonNegative = 0.0
    max_steps: Count | None = None
    expert: str | None = None


@dataclass(frozen=True, kw_only=True)
class CollectJob:
    """Job of one worker."""

    task_id: str
    request: CollectRequest
    out: Path
    reference_episodes: int


def collect_many(
    requests: Mapping[str, CollectRequest],
    out: Path,
    *,
    reference_episodes: int = 20,
    processes: int = 2,
    timeout: float = TIMEOUT,
    retries: int = 1,
    progress: TaskProgress | None = None,
) -> CollectManySummary:
    """Collects several tasks, `processes` of them at a time; see `collect`.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        requests: What is wanted, by task id.
        out: Folder that holds the stores of all tasks.
        reference_episodes: As in `collect`.
        processes: Tasks collected at the same time.
        timeout: Seconds an episode may take; then its process is killed.
        retries: How often a task goes on again after its process died or was killed.
        progress: Called in this process after every episode.
    """
    jobs = [
        Job(
            key=task_id,
            group=task_id.partition("/")[0],
            work=_work,
            argument=CollectJob(
                task_id=task_id,
                request=request,
                out=Path(out),
                reference_episodes=reference_episodes,
            ),
        )
        for task_id, request in requests.items()
    ]

    def report(task_id: str, done: int | None) -> None:
        if progress is not None and done is not None:
            progress(task_id, done)

    results, failures = run_jobs(
        jobs, processes=processes, timeout=timeout, retries=retries, on_report=report
    )
    return CollectManySummary(
        summaries=[results[task_id] for task_id in requests if task_id in results],
        failures={task_id: failures[task_id] for task_id in requests if task_id in failures},
    )


def _work(job: CollectJob, report: Report) -> CollectSummary:
    """Runs in a worker: reports the number of episodes as it grows, None for other ones."""
    return collect(
        job.task_id,
        job.request.episodes,
        job.out,
        action_noise=job.request.action_noise,
        max_steps=job.request.max_steps,
        expert=job.request.expert,
        reference_episodes=job.reference_episodes,
        progress=report,
        alive=lambda: report(None),
    )
