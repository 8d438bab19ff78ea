"""Timing contenders side by side in one run, and the ratios that come out.

Contenders take turns, round by round, so that a machine that slows down slows all of them; a
contender's figure is the median over the rounds, a ratio compares two medians of the same run.

    round 1   db1  reference  db1  ...      round 2   db1  reference ...
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

OURS = "db1"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do a piece of work.

    Args:
        name: `db1`, or what it is compared with.
        run: Does the work once.
        amount: Units of work in one run (tokens, samples, ...).
    """

    name: str
    run: Callable[[], object]
    amount: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one contender.

    Args:
        name: Of the contender.
        seconds_per_unit: One figure a round.
    """

    name: str
    seconds_per_unit: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds a unit."""
        return statistics.median(self.seconds_per_unit)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One piece of work, done by several contenders.

    Args:
        work: What was done, in words.
        unit: What is counted: `token`, `sample`, ...
        timings: In the order of the contenders; one of them is named `db1`.
        notes: Figures that belong to it, such as the largest difference of the results.
    """

    work: str
    unit: str
    timings: tuple[Timing, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def ratio(self, name: str) -> float:
        """Time of the contender `name` in units of db1's; above 1: db1 is faster."""
        medians = {timing.name: timing.median for timing in self.timings}
        return medians[name] / medians[OURS]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`."""
        return {
            "work": self.work,
            "unit": self.unit,
            "notes": dict(self.notes),
            "timings": {
                timing.name: {
                    "median_seconds": timing.median,
                    "seconds": list(timing.seconds_per_unit),
                    "per_second": 1.0 / timing.median,
                    "ratio_to_db1": self.ratio(timing.name),
                }
                for timing in self.timings
            },
        }


def compare(
    work: str,
    unit: str,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    notes: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Times contenders in turns.

    Args:
        work: What is done, in words.
        unit: What is counted.
        contenders: At least `db1` and one other; warmed up by the caller.
        rounds: Times that each one runs.
        notes: See `Comparison`.
        clock: Seconds; `time.process_time` where other processes disturb too much.
        progress: Called with (work, finished rounds, all rounds).
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for done in range(rounds):
        for contender in contenders:
            start = clock()
            contender.run()
            seconds[contender.name].append((clock() - start) / contender.amount)
        if progress is not None:
            progress(work, done + 1, rounds)
    timings = tuple(Timing(name=name, seconds_per_unit=tuple(s)) for name, s in seconds.items())
    return Comparison(work=work, unit=unit, timings=timings, notes=notes or {})


def clock_of(device: str) -> Callable[[], float]:
    """Seconds of the processor for one thread on a CPU, which others disturb less; else of a clock.

    Args:
        device: `cpu` or `cuda`.
    """
    alone = device == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def machine() -> dict[str, Any]:
    """Description of the machine and the versions behind the figures."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "torch_threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The processor's name; Linux tells it in a file only."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.split(":", 1)[1].strip() for line in lines if line[:10] == "model name")
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
