"""Evaluation in worker processes: equal results, and faults that cost their task alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from db1.errors import ConfigError, DataError
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import ExecutionConfig, TaskSelection
from db1.evaluation.queue import TaskQueue
from db1.evaluation.results import read_results
from db1.evaluation.running import play_tasks
from db1.evaluation.settings import EvaluationConfig
from db1.rollout.remote import WorkerPool

CARTPOLE, ACROBOT = "classic_control/CartPole-v1", "classic_control/Acrobot-v1"
CONFIG = EvaluationConfig(episodes=2, num_prompts=2, max_steps=30, text=False, precision="float64")


def on_cpu(**options: Any) -> ExecutionConfig:
    return ExecutionConfig(**{"workers": 0, "device": "cpu"} | options)


def returns_of(results: dict[str, Any]) -> dict[str, Any]:
    return {
        task: {key: entry[key] for key in entry if key != "seconds"}
        for task, entry in results["tasks"].items()
    }


def test_workers_and_lanes_change_nothing(run_folder: Path, tmp_path: Path) -> None:
    found = [
        evaluate(run_folder, CONFIG, out=tmp_path / str(n), execution=machine)
        for n, machine in enumerate([on_cpu(), on_cpu(workers=2), on_cpu(lanes=2)])
    ]
    assert list(found[0]["tasks"]) == [CARTPOLE, ACROBOT]
    assert returns_of(found[0]) == returns_of(found[1]) == returns_of(found[2])
    assert found[0]["summary"] == found[1]["summary"] == read_results(tmp_path / "1")["summary"]


@pytest.mark.parametrize("policy", ["random", "expert", "retrieval"])
def test_policies_without_a_model_play_in_workers(
    run_folder: Path, tmp_path: Path, policy: str
) -> None:
    config = EvaluationConfig(episodes=3, max_steps=60, policy=policy)
    options = {"selection": TaskSelection(tasks=[CARTPOLE])}
    here = evaluate(run_folder, config, out=tmp_path / "here", execution=on_cpu(), **options)
    machine = on_cpu(workers=2 if policy == "random" else 1, lanes=1)
    there = evaluate(run_folder, config, out=tmp_path / "there", execution=machine, **options)
    assert returns_of(here) == returns_of(there)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["random", "model"])
def test_faults_cost_their_task_alone(run_folder: Path, tmp_path: Path, policy: str) -> None:
    program = Path(__file__).with_name("faulty_evaluation.py")
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, program, run_folder, out, policy],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["tasks"] == ["faulty/works", "faulty/stumbles", CARTPOLE]
    failures = result["failures"]
    assert set(failures) == {"faulty/aborts", "faulty/hangs", "faulty/raises"}
    assert "ended with status -6 without a result, 2 times" in failures["faulty/aborts"]
    assert "no sign of life for 3 s" in failures["faulty/hangs"]
    assert "RuntimeError: simulator in flames" in failures["faulty/raises"]
    assert "faulty/stumbles" in done.stderr and "trying again" in done.stderr
    assert read_results(out)["failures"] == failures


ENTRY = {
    "episodes": 1, "seeds": [2_000_000], "returns": [1.0], "lengths": [1], "random": None,
    "expert": None, "reference": None, "normalised": None, "interval": None,
}  # fmt: skip


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    queue, other = TaskQueue(tmp_path), TaskQueue(tmp_path)
    with queue.claim(CARTPOLE) as mine:
        assert mine
        with other.claim(CARTPOLE) as theirs:
            assert not theirs
        queue.finish(CARTPOLE, {"entry": ENTRY})
    with other.claim(CARTPOLE) as theirs:
        assert not theirs
    assert other.read(CARTPOLE) == {"task": CARTPOLE, "entry": ENTRY}
    assert other.tasks() == [CARTPOLE] and other.read(ACROBOT) is None
    other.forget(CARTPOLE)
    with other.claim(CARTPOLE) as theirs:
        assert theirs


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    queue = TaskQueue(tmp_path)
    with queue.claim(CARTPOLE):
        queue.finish(CARTPOLE, {"failure": "none"})
    next(tmp_path.rglob("*.json")).write_text("{")
    with pytest.raises(DataError, match="delete it to play the task again"):
        queue.read(CARTPOLE)


def test_an_error_in_a_worker_is_an_error_here(tmp_path: Path) -> None:
    pool = WorkerPool(1, timeout=60.0)
    try:
        environments = pool.environments(CARTPOLE)
        environments.reset([2_000_000, 2_000_001])
        with pytest.raises(DataError, match="expected 0..1"):
            environments.step([0, 1], [0, 7])
    finally:
        pool.stop()


def test_an_interrupt_waits_for_the_lanes(tmp_path: Path) -> None:
    """A thread that is in the middle of the model would abort the interpreter that shuts down."""
    ended = []

    def play(task: str, _: WorkerPool | None) -> dict[str, Any]:
        time.sleep(1.0)
        ended.append(task)
        return {}

    def interrupt() -> None:
        raise KeyboardInterrupt

    tasks, threads = [CARTPOLE, ACROBOT, "tsp/uniform20"], threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        play_tasks(tasks, TaskQueue(tmp_path), play, on_cpu(lanes=2), interrupt)
    assert sorted(ended) == sorted(tasks[:2]) and threading.active_count() == threads


@pytest.mark.parametrize("bad", [{"workers": -1}, {"timeout": 0.0}, {"lanes": 0}, {"threads": 0}])
def test_refuses_impossible_machines(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        on_cpu(**bad)
