"""An evaluation that is killed, and one on two ranks, end like one that is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from db1.evaluation.queue import FINISHED_FOLDER
from db1.evaluation.results import RESULTS_FILE

REPOSITORY = Path(__file__).parents[2]
TASKS = ("classic_control/CartPole-v1", "classic_control/Acrobot-v1")
pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    path = bin_folder + os.pathsep + os.environ["PATH"]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **more}


def evaluation(run: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "db1", "eval", str(run), "--episodes", "6", "--out", str(out),
        "--no-text", "--device", "cpu", *more,
    ]  # fmt: skip


def lasting(out: Path) -> dict[str, Any]:
    """results.json without what tells of the run itself: times, the command, the checksum."""
    results = json.loads((out / RESULTS_FILE).read_text())
    del results["checksum"]
    del results["provenance"]["command"]
    for entry in results["tasks"].values():
        del entry["seconds"]
    return results


def kill_whole_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_three_times(run_folder: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(evaluation(run_folder, whole), env=environment(), check=True, timeout=240)
    command = evaluation(run_folder, killed, "--workers", "2")
    for moment in ("begun", "begun", "one task"):
        process = subprocess.Popen(
            command, env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 200
        pattern = "*.lock" if moment == "begun" else "*.json"
        while not list((killed / FINISHED_FOLDER).glob(pattern)) and process.poll() is None:
            assert time.monotonic() < deadline, moment
            time.sleep(0.02)
        kill_whole_group(process)
    subprocess.run(command, env=environment(), check=True, timeout=240)
    assert lasting(killed) == lasting(whole)
    assert set(lasting(whole)["tasks"]) == set(TASKS)


def test_two_ranks_equal_one(run_folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(evaluation(run_folder, one), env=environment(), check=True, timeout=240)
    port = free_port()
    processes = [
        subprocess.Popen(
            evaluation(run_folder, two, "--log", "--workers", "1"),
            env=environment(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
            ),
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert lasting(two) == lasting(one)
    assert all(f"Environment {task} test results: return" in outputs[0] for task in TASKS)
    assert outputs[1] == ""


def test_the_first_rank_takes_the_tasks_of_a_dead_one(run_folder: Path, tmp_path: Path) -> None:
    """The second rank holds a task and dies; its claim dies with it."""
    out = tmp_path / "out"
    holder = (
        "import sys, time; from pathlib import Path; from db1.evaluation.queue import TaskQueue\n"
        "with TaskQueue(Path(sys.argv[1])).claim(sys.argv[2]):\n"
        "    print('held', flush=True); time.sleep(600)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", holder, out, TASKS[0]], stdout=subprocess.PIPE, env=environment()
    )
    assert other.stdout is not None and other.stdout.readline().strip() == b"held"
    process = subprocess.Popen(evaluation(run_folder, out), env=environment())
    deadline = time.monotonic() + 200
    while not (out / FINISHED_FOLDER / (TASKS[1].replace("/", "~") + ".json")).exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    other.kill()
    other.wait()
    assert process.wait(timeout=200) == 0
    assert set(lasting(out)["tasks"]) == set(TASKS)
