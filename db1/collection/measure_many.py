"""Random and expert returns of many tasks: what `db1 tasks measure` does.

Every task is a job in a worker process. What is measured stays: the same call goes on after it. On
several machines that share the folder the same call divides the tasks, as `collect_many` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from db1.collection.measurement import measure
from db1.collection.references import RANDOM_POLICY
from db1.errors import Db1Error, check_one_of
from db1.experts import EXPERTS, Expert, make_expert
from db1.experts.planning import has_objective
from db1.experts.uniform import UniformExpert
from db1.options import option
from db1.processes.claims import Claims
from db1.processes.jobs import Job, Report, run_jobs
from db1.ranges import Checked, Count, Positive
from db1.suites import parse_task_id
from db1.suites.scores import Measured, add_measurement, measured_of

PLANNER = "planner"
POLICIES = ("random", "expert", "both", PLANNER)


@dataclass(frozen=True, kw_only=True)
class MeasureRequest(Checked):
    """Order for a measurement, the same for every task.

    Args:
        episodes: Reference seeds to play.
        policy: `random`, `expert` or `both`; tasks without an expert are left out of the latter.
            `planner`: the sampling planner in tasks that it can plan and whose expert is another.
        max_seconds: No episode of a policy starts after this time; None: all are played.
        timeout: Seconds an episode may take; then its process is killed and the task tried again.
        processes: Tasks at once.
    """

    episodes: Count = option(10, "Episodes per policy.")
    policy: str = option("both", "random, expert, both or planner.")
    max_seconds: Positive | None = option(
        None, "Start no further episode of a policy after this time."
    )
    timeout: Positive = option(600.0, "Seconds per episode; after that its process is killed.")
    processes: Count = option(2, "Tasks at once.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("policy", self.policy, POLICIES)


class MeasureSummary(NamedTuple):
    """Outcome of `measure_many`.

    Args:
        measured: The policies that were measured now, by task id.
        kept: Tasks whose measurements were there already.
        no_expert: Tasks without the expert that was asked for.
        not_runnable: Why, by task id.
        failures: One line by task id.
    """

    measured: dict[str, list[str]]
    kept: list[str]
    no_expert: list[str]
    not_runnable: dict[str, str]
    failures: dict[str, str]


class _Task(NamedTuple):
    """The job of one worker."""

    task_id: str
    policies: tuple[str, ...]
    episodes: int
    max_seconds: float | None
    out: Path


def measure_many(
    tasks: Sequence[str],
    request: MeasureRequest,
    out: Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> MeasureSummary:
    """Measures tasks and writes `out/<suite>.json` after each one.

    Args:
        tasks: Task ids.
        request: What is wanted.
        out: Folder of the scores (`db1.suites.scores.measured`).
        progress: Called with (task id, episodes over, all episodes).
    """
    summary = MeasureSummary({}, [], [], {}, {})
    totals: dict[str, int] = {}

    def take(task_id: str, message: int | dict[str, Any]) -> None:
        if isinstance(message, dict):
            summary.measured.setdefault(task_id, []).extend(message["measurements"])
        elif progress is not None:
            progress(task_id, message, totals[task_id])

    def finish(task_id: str, is_done: bool) -> None:
        if is_done and progress is not None:
            progress(task_id, totals[task_id], totals[task_id])

    left = list(tasks)
    while left:
        jobs = _jobs(left, request, out, summary, totals)
        outcomes = run_jobs(
            jobs,
            processes=request.processes,
            timeout=request.timeout,
            on_report=take,
            on_result=finish,
        )
        summary.failures.update(outcomes.failures)
        left = [task for task, is_done in outcomes.results.items() if not is_done]
        for task in left:  # others measure them
            with Claims.inside(out).wait(task):
                pass
    return summary


def _jobs(
    tasks: Sequence[str],
    request: MeasureRequest,
    out: Path,
    summary: MeasureSummary,
    totals: dict[str, int],
) -> list[Job]:
    """One job for each task that lacks a measurement; notes its number of episodes."""
    jobs = []
    for task_id in tasks:
        try:
            policies = _wanted(task_id, request, out, summary)
        except Db1Error as error:
            summary.failures[task_id] = str(error)
            continue
        if policies:
            job = _Task(task_id, policies, request.episodes, request.max_seconds, out)
            group = task_id.partition("/")[0]
            jobs.append(Job(key=task_id, group=group, work=_measure_task, argument=job))
            totals[task_id] = len(policies) * request.episodes
    return jobs


def _wanted(
    task_id: str, request: MeasureRequest, out: Path, summary: MeasureSummary
) -> tuple[str, ...]:
    """The policies that are still to be measured; notes why the others are not."""
    suite, name = parse_task_id(task_id)
    if (reason := suite.task_missing(name)) is not None:
        summary.not_runnable[task_id] = reason
        return ()
    policies = ("random", "expert") if request.policy == "both" else (request.policy,)
    expert = suite.expert_name(name)
    experts = {"random": RANDOM_POLICY, "expert": expert}
    if expert != PLANNER and has_objective(task_id):
        experts[PLANNER] = PLANNER
    known = tuple(policy for policy in policies if experts.get(policy) is not None)
    if known != policies:
        if task_id not in summary.no_expert:
            summary.no_expert.append(task_id)
        policies = known
    entry = measured_of(task_id, suite.environment_version(name), out)
    missing = tuple(p for p in policies if not _is_enough(entry, p, experts[p], request))
    if policies and not missing:
        summary.kept.append(task_id)
    return missing


def _is_enough(
    entry: Measured | None, policy: str, name: str | None, request: MeasureRequest
) -> bool:
    """Tells whether a measurement by the same expert has the episodes, or had at least the time."""
    found = None if entry is None else getattr(entry, policy)
    if found is None or found.get("policy") != name:
        return False
    if found["episodes"] + len(found.get("given_up", ())) >= request.episodes:
        return True
    limit = found.get("limit_seconds")
    return limit is not None and request.max_seconds is not None and limit >= request.max_seconds


def _measure_task(task: _Task, report: Report) -> bool:
    """Runs in a worker: False where another process measures the task."""
    with Claims.inside(task.out).claim(task.task_id) as is_mine:
        if is_mine:
            _measure(task, report)
        return is_mine


def _measure(task: _Task, report: Report) -> None:
    """Reports numbers of episodes, and the arguments of `add_measurement`."""
    suite, name = parse_task_id(task.task_id)
    env = suite.make_env(name)
    try:
        for number, policy in enumerate(task.policies):
            before = number * task.episodes
            player, called = _player(task.task_id, policy)
            measurement = measure(
                env,
                player,
                called,
                task.episodes,
                max_seconds=task.max_seconds,
                progress=lambda done, before=before: report(before + done),
            )
            entry = {
                "environment_version": suite.environment_version(name),
                "wrapper": f"{type(env).__module__}.{type(env).__qualname__}",
                "measurements": {policy: measurement},
            }
            add_measurement(task.out, task.task_id, **entry)
            report(entry)
    finally:
        env.close()


def _player(task_id: str, policy: str) -> tuple[Expert, str]:
    """Policy that plays, and its name in the registry."""
    suite, name = parse_task_id(task_id)
    if policy == "random":
        return UniformExpert(), RANDOM_POLICY
    if policy == PLANNER:
        return EXPERTS[PLANNER](name), PLANNER
    return make_expert(task_id), str(suite.expert_name(name))
