"""The verb about this machine: `db1 doctor`."""

from __future__ import annotations

import importlib.util
import platform
import sys

from rich.table import Table

from db1.cli.console import Console
from db1.suites.base import Suite


def doctor() -> None:
    """Shows what runs on this machine and the command that installs the rest.

    Example: db1 doctor
    """
    import torch

    from db1 import __version__
    from db1.suites import SUITES

    table = Table("part", "state", title=f"db1 {__version__}")
    table.add_row("python", f"{platform.python_version()} ({sys.executable})")
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    gpus = torch.cuda.device_count()
    table.add_row("gpu", torch.cuda.get_device_name(0) + f" x {gpus}" if gpus else "none: CPU runs")
    for package in ("deepspeed", "tokenizers", "tensorboard", "matplotlib"):
        found = importlib.util.find_spec(package) is not None
        table.add_row(package, "ok" if found else f"missing: pip install {package}")
    built = importlib.util.find_spec("db1._index") is not None
    extension = "ok" if built else "not built: pip install --no-build-isolation -e ."
    table.add_row("C++ index builder", extension)
    for name in SUITES:
        table.add_row(f"suite {name}", _suite_state(SUITES[name]))
    Console().print(table)


def _suite_state(suite: Suite) -> str:
    """`ok, 50 tasks`, or what is missing, of the suite or of some of its tasks."""
    names = suite.task_names()
    if (reason := suite.missing()) is not None:
        return reason
    reasons = [reason for name in names if (reason := suite.task_missing(name)) is not None]
    if not reasons:
        return f"ok, {len(names)} tasks"
    return f"ok, {len(names) - len(reasons)} of {len(names)} tasks; such as {reasons[0]}"


VERBS = {"doctor": doctor}
