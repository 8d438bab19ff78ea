"""One training a run folder: the second start is one line, the dead hold nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from db1 import locks
from db1.errors import ConfigError
from db1.training.state.run_lock import FILE, RunLock

HOLD = """
import sys, time
from pathlib import Path
from db1.training.state.run_lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(120)
"""


def _holder(run: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_one_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = _holder(run)
    try:
        with pytest.raises(ConfigError, match=rf"trained already, by process {process.pid} on "):
            RunLock(run).acquire()
    finally:
        process.kill()
        process.wait()


def test_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    process = _holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert time.monotonic() - started < 2
    assert (tmp_path / FILE).read_text() == ""


def test_it_is_free_again_after_release_and_held_once_in_a_process(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(ConfigError, match="trained already"):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):
        pass


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        lock.release()
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _of_elsewhere(run: Path, beat: int) -> None:
    holder = {"host": "another-machine", "pid": 7, "started": "then", "command": "x", "beat": beat}
    (run / FILE).write_text(json.dumps(holder))


def test_another_machine_that_beats_holds_it(tmp_path: Path) -> None:
    _of_elsewhere(tmp_path, 0)
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(0.02):
            _of_elsewhere(tmp_path, number := number + 1)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(ConfigError, match="process 7 on another-machine"):
            RunLock(tmp_path, beat_seconds=0.1, watch_seconds=5.0).acquire()
    finally:
        ended.set()
        thread.join()


def test_another_machine_without_a_beat_is_gone(tmp_path: Path) -> None:
    _of_elsewhere(tmp_path, 5)
    with RunLock(tmp_path, beat_seconds=0.05, watch_seconds=0.2):
        first = json.loads((tmp_path / FILE).read_text())["beat"]
        time.sleep(0.3)
        assert json.loads((tmp_path / FILE).read_text())["beat"] > first


def test_a_broken_lock_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[" * 5_000)
    with RunLock(tmp_path):
        pass


def test_a_file_system_without_locks_goes_by_the_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with RunLock(tmp_path):
        pass
