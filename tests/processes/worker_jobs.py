"""Work for the worker processes of `test_jobs.py`; they import this file by its folder."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from db1.errors import DataError


def answer(argument, report):
    report(os.getpid())
    return argument * 2


def die(argument, report):
    os._exit(7)


def die_once(path, report):
    if not Path(path).exists():
        Path(path).touch()
        os._exit(7)
    return "second time"


def hang(argument, report):
    child = subprocess.Popen(["sleep", "600"])
    Path(argument).write_text(str(child.pid))
    time.sleep(600)


def refuse(argument, report):
    raise DataError("tsp/x: no")


def break_down(argument, report):
    raise ZeroDivisionError("by zero")
