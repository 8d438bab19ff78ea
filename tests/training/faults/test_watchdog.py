"""A process that hangs is named by the others, and the run ends."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_training
from launching import rank_environment
from ports import free_port

from db1.metrics_log import read_metrics
from db1.training.faults.watchdog import EXIT_HUNG, Watchdog, describe_hang, hung_ranks

SCRIPT = Path(tiny_training.__file__)


def _state(progress, waiting=False, doing="step 7: reading", beat=5):
    return {
        "beat": beat,
        "progress": progress,
        "doing": doing,
        "waiting": waiting,
        "pid": 11,
        "host": "node-a",
    }


def test_names_the_frozen_one():
    states = {0: _state(9), 1: _state(9, doing="step 7: forward and backward")}
    assert hung_ranks(states, [1]) == [1]
    message = describe_hang(states, [1], 30.2)
    assert message.startswith("no progress for 30 s (training.hang_timeout); what hangs: rank 1 ")
    assert "(pid 11 on node-a) at 'step 7: forward and backward': it does not run" in message
    assert "waiting for it: rank 0 at 'step 7: reading'" in message


def test_names_the_one_that_waits_for_nobody():
    states = {0: _state(9, waiting=True), 1: _state(8), 2: _state(9, waiting=True)}
    assert hung_ranks(states, []) == [1]
    assert "what hangs: rank 1 (pid 11 on node-a) at 'step 7: reading'; waiting" in describe_hang(
        states, [], 5
    )


def test_names_the_one_behind_and_all_when_none_is():
    assert hung_ranks({0: _state(9), 1: _state(8)}, []) == [1]
    assert hung_ranks({0: _state(9), 1: _state(9)}, []) == [0, 1]
    assert "what hang: rank 0" in describe_hang({0: _state(9), 1: _state(9)}, [], 5)


def test_a_lost_file_counts_as_frozen():
    assert "rank 1: it does not run" in describe_hang({0: _state(9), 1: None}, [1], 5)


class _Pair(SimpleNamespace):
    """This process as rank 0 of two, without a process group."""

    rank, world_size, is_waiting, num_words = 0, 2, True, 0

    def barrier(self):
        pass


def _run_beside(tmp_path, other, seconds, work=lambda dog: None):
    """Runs a watchdog beside a file of rank 1 that `other` rewrites; returns how it ended."""
    ends = []
    with Watchdog(tmp_path, _Pair(), 0.5, end=ends.append) as dog:
        dog.is_under_way = True
        deadline, number = time.monotonic() + seconds, 0
        while time.monotonic() < deadline and not ends:
            number += 1
            path = tmp_path / "heartbeat" / "rank-00001.json"
            path.with_suffix(".new").write_text(json.dumps(other(number)))
            os.replace(path.with_suffix(".new"), path)
            work(dog)
            time.sleep(0.02)
    return ends


def test_ends_when_the_other_one_is_frozen(tmp_path, capsys):
    assert _run_beside(tmp_path, lambda n: _state(3), 60)[:1] == [EXIT_HUNG]
    error = capsys.readouterr().err
    assert error.startswith("error: no progress for") and "what hangs: rank 1" in error


def test_waits_while_the_other_one_works(tmp_path):
    assert _run_beside(tmp_path, lambda n: _state(n, beat=n), 2.5) == []


def test_is_silent_while_this_one_works(tmp_path):
    assert _run_beside(tmp_path, lambda n: _state(3), 2.5, lambda dog: dog.now("work")) == []


def test_is_off_alone_and_by_zero(tmp_path):
    for processes, timeout in ((SimpleNamespace(world_size=1), 5.0), (_Pair(), 0.0)):
        with Watchdog(tmp_path, processes, timeout) as dog:
            dog.now("work")
        assert not (tmp_path / "heartbeat").exists()


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="pip install deepspeed")
def test_a_stopped_process_ends_the_run_with_its_name(tmp_path):
    """The first one, which keeps what the processes would meet by."""
    stopped, port = 0, free_port()
    settings = {"engine": "deepspeed", "num_steps": 5000, "hang_timeout": 8}
    command = [sys.executable, str(SCRIPT), str(tmp_path), json.dumps(settings)]
    ranks = [
        subprocess.Popen(
            command, env=rank_environment(rank, 2, port), stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        while not (tmp_path / "metrics.jsonl").exists() or not read_metrics(tmp_path):
            assert all(rank.poll() is None for rank in ranks)
            time.sleep(0.05)
        ranks[stopped].send_signal(signal.SIGSTOP)
        _, log = ranks[1 - stopped].communicate(timeout=120)
        assert ranks[1 - stopped].returncode == EXIT_HUNG, log
        errors = [line for line in log.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert f"what hangs: rank {stopped} (pid {ranks[stopped].pid} on " in errors[0]
        assert "it does not run any more" in errors[0] and "at 'step " in errors[0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
