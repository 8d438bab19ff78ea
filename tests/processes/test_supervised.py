"""One supervised process: answers, errors, silence, and its end with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from db1.errors import DataError
from db1.processes.supervised import ProcessLost, Report, SupervisedProcess, serve_requests


def serve(connection: Connection) -> None:
    serve_requests(connection, answer)


def answer(request: Any, report: Report) -> Any:
    kind, value = request
    if kind == "double":
        return 2 * value
    if kind == "sleep":
        time.sleep(value)
    if kind == "talk":
        for _ in range(value):
            time.sleep(0.5)
            report(None)
        return "done"
    if kind == "refuse":
        raise DataError("tsp/x: no")
    if kind == "break":
        raise ZeroDivisionError("by zero")
    os._exit(value)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_supervised

    found = SupervisedProcess(test_supervised.serve)
    yield found
    found.kill()
    found.kill()  # once more does no harm


def ask(process: SupervisedProcess, kind: str, value: Any, timeout: float = 60.0) -> Any:
    process.send((kind, value))
    return process.receive(timeout)


def test_answers_and_errors(process: SupervisedProcess) -> None:
    assert ask(process, "double", 21) == 42
    with pytest.raises(DataError, match="tsp/x: no"):
        ask(process, "refuse", 0)
    with pytest.raises(DataError, match="ZeroDivisionError: by zero"):
        ask(process, "break", 0)
    assert ask(process, "double", 1) == 2


def test_signs_of_life_keep_it_alive(process: SupervisedProcess) -> None:
    assert ask(process, "talk", 4, timeout=1.5) == "done"
    with pytest.raises(ProcessLost, match="no sign of life for 1 s"):
        ask(process, "sleep", 60, timeout=1.0)


def test_a_process_that_ended(process: SupervisedProcess) -> None:
    with pytest.raises(ProcessLost, match="ended with status 7"):
        ask(process, "exit", 7)


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import test_supervised as t\n"
        "from db1.processes.supervised import SupervisedProcess\n"
        "if __name__ == '__main__':\n"
        "    p = SupervisedProcess(t.serve); t.ask(p, 'double', 1)\n"
        "    p.send(('sleep', 600)); print(p._process.pid, flush=True); time.sleep(600)\n"
    )
    program = tmp_path / "parent.py"
    program.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(program), str(Path(__file__).parent)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")
