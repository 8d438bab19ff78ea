"""Many sessions in one process, batched, against processes that each act alone.

    served      N sessions, a thread each, over one model (`db1.serving.sessions.Service`)
    alone       P processes, each with a model of its own that acts in one session at a time

Both do the same acts on the same observations; processes beyond the cores only share them. Both
are processes of their own, so that their memory can be compared: the server's with all libraries
counted in full, that of the processes together with each shared page counted once (alone.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from db1.benchmarks.alone import AloneFigures, AloneWork, time_alone
from db1.benchmarks.memory import ProcessMemory, process_memory
from db1.inference.load import load_agent_parts
from db1.options import option
from db1.ranges import Checked, Count
from db1.serving.server import make_service
from db1.serving.sessions import ServiceConfig
from db1.suites import make_env


@dataclass(frozen=True, kw_only=True)
class ServingBenchmark(Checked):
    """Settings of the measurement.

    Args:
        run: The model folder.
        task: Task id.
        sessions: Concurrent sessions.
        steps: Actions per session.
        processes: Processes that each act alone; fewer where the memory ends.
        threads: torch threads of the served model.
    """

    run: Path
    task: str = option("classic_control/CartPole-v1", "suite/task.")
    sessions: Count = option(64, "Number of concurrent sessions.")
    steps: Count = option(20, "Actions per session.")
    processes: Count = option(2, "Processes that each act alone, for comparison.")
    threads: Count = option(2, "torch threads of the server.")


@dataclass(frozen=True, kw_only=True)
class ServedFigures:
    """Figures of the server.

    Args:
        acts: Of all sessions together.
        acts_per_second: Likewise.
        rows: Mean sessions in a pass.
        slowest: Acts a second of the slowest session over those of the fastest.
        median_ms, worst_ms: Time of an act.
        cpu_ms: Processor time of an act, which other work on the machine does not lengthen.
        memory: Of the process at the end; None where the system does not tell.
    """

    acts: int
    acts_per_second: float
    rows: float
    slowest: float
    median_ms: float
    worst_ms: float
    cpu_ms: float
    memory: ProcessMemory | None


@dataclass(frozen=True, kw_only=True)
class ServingResult:
    """Figures of both ways."""

    served: ServedFigures
    alone: AloneFigures

    def figures(self) -> dict[str, float | str | None]:
        """All figures by name; megabytes are of 2^20 bytes, None where the system does not tell."""
        served, alone = self.served, self.alone
        found: dict[str, float | str | None] = {
            "served_acts": served.acts,
            "served_acts_per_second": served.acts_per_second,
            "served_cpu_ms": served.cpu_ms,
            "served_rows_in_a_pass": served.rows,
            "served_slowest_session_to_fastest": served.slowest,
            "served_median_ms": served.median_ms,
            "served_worst_ms": served.worst_ms,
            "served_resident_mb": served.memory and served.memory.resident,
            "served_peak_mb": served.memory and served.memory.peak,
            "alone_processes": alone.processes,
            "alone_why": alone.why,
            "alone_acts": alone.acts,
            "alone_acts_per_second": alone.acts_per_second,
            "alone_cpu_ms": alone.cpu_ms,
            "alone_slowest_process_acts_per_second": alone.slowest,
            "alone_median_process_acts_per_second": alone.median,
            "alone_fastest_process_acts_per_second": alone.fastest,
            "alone_resident_mb_each": _mean(alone, "resident"),
            "alone_own_mb_each": _mean(alone, "own"),
            "alone_proportional_mb_sum": _sum(alone, "proportional"),
            "ratio_acts_per_second": served.acts_per_second / alone.acts_per_second,
            "ratio_cpu": alone.cpu_ms / served.cpu_ms,
        }
        together = found["alone_proportional_mb_sum"]
        is_known = together is not None and served.memory is not None
        found["ratio_memory"] = together / served.memory.resident if is_known else None
        return found


class _Rows:
    """Rows of every pass."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def batch(self, rows: int) -> None:
        """Takes note of a pass."""
        self.rows.append(rows)


def time_serving(
    benchmark: ServingBenchmark, tell: Callable[[str], None] = lambda text: None
) -> ServingResult:
    """Times both ways, one after the other.

    Args:
        benchmark: What is timed.
        tell: Called with sentences about how it goes.

    Raises:
        Db1Error: The model cannot act in the task, or a process ends.
    """
    observations = record_observations(benchmark.task, benchmark.steps)
    work = AloneWork(
        run=benchmark.run,
        task=benchmark.task,
        sessions=benchmark.sessions,
        observations=observations,
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        served = fresh.submit(time_served, benchmark, observations).result()
    tell(f"served {served.acts} acts in {benchmark.sessions} sessions")
    return ServingResult(served=served, alone=time_alone(work, benchmark.processes, tell))


def record_observations(task: str, steps: int) -> list[dict[str, Any]]:
    """Observations of random steps; an episode that ends is followed by the next."""
    env, rng, seed = make_env(task), np.random.default_rng(0), 0
    observation, _ = env.reset(seed=seed)
    found = []
    try:
        while len(found) < steps:
            found.append(observation)
            observation, _, terminated, truncated, _ = env.step(env.sample_action(rng, observation))
            if terminated or truncated:
                seed += 1
                observation, _ = env.reset(seed=seed)
    finally:
        env.close()
    return found


def time_served(
    benchmark: ServingBenchmark, observations: Sequence[dict[str, Any]]
) -> ServedFigures:
    """Lets all sessions act at once over one model; sets the threads of torch.

    Args:
        benchmark: What is timed.
        observations: Of a session's steps.
    """
    import torch

    torch.set_num_threads(benchmark.threads)
    counts = _Rows()
    config = ServiceConfig(max_sessions=benchmark.sessions, max_rows=benchmark.sessions)
    service = make_service(load_agent_parts(benchmark.run, device="cpu"), config, counts)
    sessions = [service.open(benchmark.task, seed=n) for n in range(benchmark.sessions)]
    times = np.zeros((len(sessions), len(observations)))
    ends = np.zeros(len(sessions))
    barrier = threading.Barrier(len(sessions) + 1)

    def act(number: int) -> None:
        barrier.wait()
        for step, observation in enumerate(observations):
            started = time.perf_counter()
            service.act(sessions[number].id, observation)
            times[number, step] = time.perf_counter() - started
        ends[number] = time.perf_counter()

    threads = [threading.Thread(target=act, args=(n,)) for n in range(len(sessions))]
    for thread in threads:
        thread.start()
    counts.rows.clear()
    barrier.wait()
    started, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    memory = process_memory()
    service.stop()
    return ServedFigures(
        acts=times.size,
        acts_per_second=times.size / seconds,
        rows=float(np.mean(counts.rows)),
        slowest=float((ends - started).min() / (ends - started).max()),
        median_ms=1_000 * float(np.median(times)),
        worst_ms=1_000 * float(times.max()),
        cpu_ms=1_000 * cpu / times.size,
        memory=memory,
    )


def _sum(alone: AloneFigures, field: str) -> float | None:
    """Megabytes of all processes together."""
    return None if alone.memory is None else sum(getattr(one, field) for one in alone.memory)


def _mean(alone: AloneFigures, field: str) -> float | None:
    together = _sum(alone, field)
    return None if together is None else together / alone.processes
