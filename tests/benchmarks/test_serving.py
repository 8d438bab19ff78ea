"""The load test of the server: both ways do the same acts, and memory limits the processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from db1.benchmarks import alone
from db1.benchmarks.memory import process_memory, reset_peak, status_megabytes
from db1.benchmarks.serving import ServingBenchmark, record_observations, time_serving
from db1.errors import Db1Error

sys.path.append(str(Path(__file__).parents[1] / "api"))  # for toy

from toy import make_run

TASK = "classic_control/CartPole-v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("bench") / "toy", (TASK,))


def test_both_ways_do_the_same_acts(run: Path) -> None:
    said: list[str] = []
    sizes = {"sessions": 3, "steps": 2, "processes": 2, "threads": 1}
    result = time_serving(ServingBenchmark(run=run, task=TASK, **sizes), said.append)
    assert result.served.acts == 6 and result.alone.acts == 6 and result.alone.processes == 2
    assert 1 <= result.served.rows <= 3 and 0 < result.served.slowest <= 1
    assert result.alone.slowest <= result.alone.median <= result.alone.fastest
    assert said[-1] == "2 of 2 processes"
    figures = result.figures()
    per_second = [figures[f"{way}_acts_per_second"] for way in ("served", "alone")]
    assert figures["ratio_acts_per_second"] == per_second[0] / per_second[1]
    assert figures["ratio_cpu"] == figures["alone_cpu_ms"] / figures["served_cpu_ms"]
    if result.alone.memory is None or result.served.memory is None:
        pytest.skip("this system does not tell the memory of processes (Linux does)")
    for memory in (*result.alone.memory, result.served.memory):
        assert 0 < memory.own <= memory.proportional <= memory.resident <= memory.peak
    together = figures["alone_proportional_mb_sum"]
    assert together == pytest.approx(sum(one.proportional for one in result.alone.memory))
    assert figures["ratio_memory"] == together / figures["served_resident_mb"]


def test_only_as_many_processes_as_the_memory_holds(run: Path) -> None:
    work = alone.AloneWork(
        run=run, task=TASK, sessions=2, observations=record_observations(TASK, 2)
    )
    figures = alone.time_alone(work, 5, lambda text: None, free=lambda: 1_030 << 20)
    if figures.memory is None:
        pytest.skip("this system does not tell the memory of processes (Linux does)")
    assert figures.processes == 1 and figures.acts == 4
    assert figures.why.startswith("1 of 5 processes: another one takes up to ")
    assert "1,030 MB are free" in figures.why


def test_how_many_fit() -> None:
    assert alone.fitting(8, 300, 2_300) == 4
    assert alone.fitting(3, 300, 2_300) == 3
    assert alone.fitting(8, 300, 1_100) == 0 and alone.fitting(8, 300, 500) == 0
    assert alone.fitting(8, None, 0) == 8


def test_a_process_that_cannot_act_is_told(tmp_path: Path) -> None:
    work = alone.AloneWork(run=tmp_path / "none", task=TASK, sessions=1, observations=[{}])
    with pytest.raises(Db1Error, match="none"):
        alone.time_alone(work, 1, lambda text: None)


@pytest.mark.skipif(process_memory() is None, reason="this system does not tell (Linux does)")
def test_memory_grows_with_what_is_held() -> None:
    assert reset_peak()
    before = process_memory()
    held = bytearray(b"x") * (64 << 20)
    during = process_memory()
    assert 60 < during.own - before.own < 80 and during.peak >= before.resident + 60
    del held
    assert reset_peak() and status_megabytes("VmHWM") < during.resident - 40
    assert status_megabytes("VmRSS", 2**30) is None
