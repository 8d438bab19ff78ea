"""How fast the environments of each suite are, played by random actions on one thread.

    python scripts/benchmark_suites.py
    python scripts/benchmark_suites.py --suite babyai --seconds 5 --json speeds.json

Of each installed suite a few tasks are taken, spread over its list, each with a first environment
(which may compile a model or load a file) and a second one that is stepped. Resets count as steps
of their episode. `scripts/benchmarks.sh suites` keeps the figures for docs/suites.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from db1.errors import Db1Error  # noqa: E402
from db1.suites import SUITES, make_env  # noqa: E402
from db1.suites.seeds import seed_for  # noqa: E402

NUM_TASKS = 4


def spread(names: list[str], count: int) -> list[str]:
    """Some names from the first to the last one, evenly spaced."""
    if len(names) <= count:
        return names
    return [names[round(n * (len(names) - 1) / (count - 1))] for n in range(count)]


def measure_task(task: str, seconds: float) -> dict[str, Any]:
    """Times the making and the stepping of one task.

    Returns:
        `task`, `first_seconds` and `seconds` to make the first and another environment,
        `steps_per_second`.
    """
    from db1.experts.uniform import UniformExpert

    started = time.perf_counter()
    make_env(task).close()
    first = time.perf_counter() - started
    started = time.perf_counter()
    env = make_env(task)
    made = time.perf_counter() - started
    actor, steps, episode = UniformExpert(), 0, 1
    observation, _ = env.reset(seed=seed_for("collection", 0))  # may read files
    actor.reset(env, seed_for("collection", 0))
    env.step(actor.act(env, observation))
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        seed = seed_for("collection", episode)
        observation, _ = env.reset(seed=seed)
        actor.reset(env, seed)
        episode, is_over = episode + 1, False
        while not is_over and time.perf_counter() - started < seconds:
            result = env.step(actor.act(env, observation))
            observation, is_over = result[0], result[2] or result[3]
            steps += 1
    rate = steps / (time.perf_counter() - started)
    env.close()
    return {"task": task, "first_seconds": first, "seconds": made, "steps_per_second": rate}


def measure_suite(suite: str, seconds: float) -> dict[str, Any] | None:
    """Row of a suite; None where none of its tasks can be played here."""
    own = SUITES[suite]
    names = [n for n in own.task_names() if not (own.missing() or own.task_missing(n))]
    found = [measure_task(f"{suite}/{name}", seconds) for name in spread(names, NUM_TASKS)]
    if not found:
        return None
    rates = [each["steps_per_second"] for each in found]
    return {
        "suite": suite,
        "tasks": [each["task"] for each in found],
        "slowest": min(rates),
        "fastest": max(rates),
        "first_seconds": statistics.median(each["first_seconds"] for each in found),
        "seconds": statistics.median(each["seconds"] for each in found),
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    closed = [name for name in sorted(SUITES) if not SUITES[name].is_open]
    parser.add_argument("--suite", action="append", choices=closed)
    parser.add_argument("--seconds", type=float, default=1.5, help="of stepping, a task")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    rows = []
    for suite in arguments.suite or closed:  # a process each: simulators do not disturb another
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            row = pool.submit(measure_suite, suite, arguments.seconds).result()
        if row is None:
            print(f"{suite:16} not installed", flush=True)
            continue
        rows.append(row)
        print(
            f"{suite:16} {row['slowest']:9,.0f} to {row['fastest']:9,.0f} steps/s, made in "
            f"{row['seconds']:.3f} s (the first in {row['first_seconds']:.3f} s)",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except Db1Error as error:
        sys.exit(f"benchmark_suites: {error}")
