"""Many sessions in one process, batched, against processes that each act alone.

    served      N sessions, a thread each, over one model (`db1.serving.sessions.Service`)
    processes   P processes, each with a model of its own that acts in one session at a time

Both do the same acts on the same observations; processes beyond the cores only share them.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
        processes: Processes that each act alone.
        threads: torch threads of the served model.
    """

    run: Path
    task: str = option("classic_control/CartPole-v1", "suite/task.")
    sessions: Count = option(64, "Number of concurrent sessions.")
    steps: Count = option(20, "Actions per session.")
    processes: Count = option(2, "Processes that each act alone, for comparison.")
    threads: Count = option(2, "torch threads of the server.")


@dataclass(frozen=True, kw_only=True)
class ServingResult:
    """Figures of a benchmark.

    Args:
        served: Acts a second, all sessions together.
        alone: Acts a second, all processes together.
        rows: Mean sessions in a pass.
        slowest: Acts a second of the slowest session over those of the fastest.
        median_ms, worst_ms: Time of an act.
        served_cpu_ms, alone_cpu_ms: Processor time of an act, which other work on the machine
            does not lengthen.
    """

    served: float
    alone: float
    rows: float
    slowest: float
    median_ms: float
    worst_ms: float
    served_cpu_ms: float
    alone_cpu_ms: float


class _Rows:
    """Rows of every pass."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def batch(self, rows: int) -> None:
        """Takes note of a pass."""
        self.rows.append(rows)


def time_serving(benchmark: ServingBenchmark) -> ServingResult:
    """Times both ways.

    Args:
        benchmark: What is timed.
    """
    import torch

    observations = record_observations(benchmark.task, benchmark.steps)
    alone, alone_cpu = _time_alone(benchmark)
    before = torch.get_num_threads()
    torch.set_num_threads(benchmark.threads)
    try:
        rows, times, seconds, ends, served_cpu = _time_served(benchmark, observations)
    finally:
        torch.set_num_threads(before)
    flat = np.concatenate(times)
    return ServingResult(
        served=len(flat) / seconds,
        alone=alone,
        rows=float(np.mean(rows)),
        slowest=float(min(ends) / max(ends)),
        median_ms=1000 * float(np.median(flat)),
        worst_ms=1000 * float(flat.max()),
        served_cpu_ms=1000 * served_cpu / len(flat),
        alone_cpu_ms=1000 * alone_cpu,
    )


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


def _time_served(
    benchmark: ServingBenchmark, observations: Sequence[dict[str, Any]]
) -> tuple[list[int], list[np.ndarray], float, list[float], float]:
    """Rows of the passes, times of the acts by session, seconds in all, of each, and of CPU."""
    counts = _Rows()
    config = ServiceConfig(max_sessions=benchmark.sessions, max_rows=benchmark.sessions)
    service = make_service(load_agent_parts(benchmark.run, device="cpu"), config, counts)
    sessions = [service.open(benchmark.task, seed=n) for n in range(benchmark.sessions)]
    times = [np.zeros(len(observations)) for _ in sessions]
    ends = [0.0] * len(sessions)
    barrier = threading.Barrier(len(sessions) + 1)

    def act(number: int) -> None:
        barrier.wait()
        for step, observation in enumerate(observations):
            started = time.perf_counter()
            service.act(sessions[number].id, observation)
            times[number][step] = time.perf_counter() - started
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
    service.stop()
    return counts.rows, times, seconds, [end - started for end in ends], cpu


def _time_alone(benchmark: ServingBenchmark) -> tuple[float, float]:
    """Acts a second of all processes together, and CPU seconds of an act."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(benchmark.processes), context.Queue()
    arguments = (benchmark, barrier, results)
    workers = [
        context.Process(target=_act_alone, args=arguments) for _ in range(benchmark.processes)
    ]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return float(sum(rate for rate, _ in found)), float(np.mean([cpu for _, cpu in found]))


def _act_alone(benchmark: ServingBenchmark, barrier: Any, results: Any) -> None:
    """Runs in a process: acts in one session after the other, as fast as it can."""
    import torch

    from db1.api.acting import make_agent

    torch.set_num_threads(1)
    loaded = load_agent_parts(benchmark.run, device="cpu")
    observations = record_observations(benchmark.task, benchmark.steps)
    agent = make_agent(loaded, benchmark.task)
    agent.act(observations[0])
    barrier.wait()
    acts, started, cpu = 0, time.perf_counter(), time.process_time()
    for _ in range(max(1, benchmark.sessions // benchmark.processes // 4)):
        agent.reset()
        for observation in observations:
            agent.act(observation)
            acts += 1
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    results.put((acts / seconds, cpu / acts))
