"""Jobs in worker processes: crashes, work.hangs, errors, retries."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import pytest

from db1.errors import ConfigError
from db1.processes.jobs import Job, run_jobs


@pytest.fixture(autouse=True)
def work(monkeypatch):
    """The module with the work, importable in a worker too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("worker_jobs")


def job(key, function, argument=1, group="a"):
    return Job(key=key, group=group, work=function, argument=argument)


def test_one_process_serves_a_group_and_another_group_gets_another(work):
    pids, results = {}, []
    jobs = [
        job("one", work.answer, 1),
        job("two", work.answer, 2),
        job("three", work.answer, 3, "b"),
    ]
    outcomes = run_jobs(
        jobs,
        processes=1,
        timeout=60,
        on_report=pids.__setitem__,
        on_result=lambda key, value: results.append((key, value)),
    )
    assert results == [("one", 2), ("two", 4), ("three", 6)]
    assert outcomes.results == dict(results) and outcomes.failures == {}
    assert pids["one"] == pids["two"] != pids["three"]


def test_what_fails_costs_itself_alone(work, tmp_path):
    jobs = [
        job("dies", work.die),
        job("refuses", work.refuse),
        job("once", work.die_once, str(tmp_path / "flag")),
        job("breaks", work.break_down),
        job("works", work.answer, 21),
    ]
    outcomes = run_jobs(jobs, processes=2, timeout=60)
    assert outcomes.results == {"works": 42, "once": "second time"}
    assert outcomes.failures["dies"] == (
        "dies: the process ended with status 7 without a result (2 times); run it alone to see why"
    )
    assert outcomes.failures["refuses"] == "tsp/x: no"
    assert outcomes.failures["breaks"] == "breaks: ZeroDivisionError: by zero"


def test_a_silent_job_is_killed_with_what_it_started(work, tmp_path):
    path = tmp_path / "child"
    started = time.monotonic()
    jobs = [job("hangs", work.hang, str(path)), job("works", work.answer, 1)]
    outcomes = run_jobs(jobs, processes=1, timeout=3, retries=0)
    assert time.monotonic() - started < 30
    assert outcomes.results == {"works": 2}
    assert "no sign of life for 3 s" in outcomes.failures["hangs"]
    state = Path(f"/proc/{path.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.parametrize(("processes", "timeout"), [(0, 1.0), (1, 0.0)])
def test_impossible_numbers(processes, timeout):
    with pytest.raises(ConfigError):
        run_jobs([], processes=processes, timeout=timeout)
