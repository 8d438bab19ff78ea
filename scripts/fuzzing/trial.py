"""One command of db1 in a process of its own, forked from one that has everything imported.

    outcome = run(["train", "tiny.yaml"], folder, limit=60)
    fault = fault_of(outcome)          None: it worked, or was refused in one line

A fork takes a hundredth of the time that starting Python with torch takes.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HANG = 124
TELLTALES = ("Traceback (most recent call last)", "internal error:", "panicked at", "Exception ")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command did.

    Args:
        status: Exit status; negative: the signal that ended it; `HANG`: it was ended here.
        out: Its standard output.
        err: Its standard errors.
        seconds: It took.
    """

    status: int
    out: str
    err: str
    seconds: float


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    limit: float = 60.0,
    prepare: Callable[[], None] | None = None,
    kill_after: float | None = None,
) -> Outcome:
    """Runs `db1 ARGUMENTS` in a folder.

    Args:
        arguments: Behind `db1`.
        folder: The present folder of the command.
        limit: Seconds after which it counts as hung.
        prepare: Called in the new process first, to take room or rights from it.
        kill_after: Seconds after which it is killed with SIGKILL, as a crash would.
    """
    out, err = folder / ".fuzz-out", folder / ".fuzz-err"
    started = time.monotonic()
    child = os.fork()
    if not child:
        _become(arguments, folder, out, err, prepare)
    status = _wait(child, started, limit, kill_after)
    seconds = time.monotonic() - started
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    return Outcome(status=status, out=texts[0], err=texts[1], seconds=seconds)


def _become(
    arguments: Sequence[str],
    folder: Path,
    out: Path,
    err: Path,
    prepare: Callable[[], None] | None,
) -> None:
    """Turns this process into the command; does not return."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        for path, descriptor in ((out, 1), (err, 2)):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, descriptor)
            os.close(opened)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        # The parent's may write elsewhere, as those of a test do.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        sys.argv = ["db1", *arguments]
        if prepare is not None:
            prepare()
        from db1.cli.main import main

        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _wait(child: int, started: float, limit: float, kill_after: float | None) -> int:
    pause = 0.001
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        spent = time.monotonic() - started
        if kill_after is not None and spent >= kill_after:
            _end(child)
            return -signal.SIGKILL
        if spent > limit:
            _end(child)
            return HANG
        time.sleep(pause)
        pause = min(0.02, pause * 1.2)


def _end(child: int) -> None:
    """Kills the command with all processes that it started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not become a group yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def fault_of(outcome: Outcome) -> str | None:
    """Why an outcome is a fault of db1; None where it is none."""
    if outcome.status == HANG:
        return "hang"
    if outcome.status < 0:
        return f"ended by signal {-outcome.status}"
    for telltale in TELLTALES:
        if telltale in outcome.err or telltale in outcome.out:
            return "traceback"
    errors = [line for line in outcome.err.splitlines() if line.startswith("db1: error:")]
    if outcome.status == 2 and len(errors) != 1 and "Usage: db1" not in outcome.out:
        return f"{len(errors)} error lines with status 2"
    if outcome.status not in (0, 1, 2, 130):
        return f"status {outcome.status}"
    return None


def little_room(num_bytes: int) -> Callable[[], None]:
    """No file may grow beyond this: writing fails as on a full disk."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    return prepare


def few_files(number: int) -> Callable[[], None]:
    """The process may have so many files open."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

    return prepare


def output_to(path: str | None) -> Callable[[], None]:
    """Standard output goes to a file such as /dev/full; None: it is closed."""

    def prepare() -> None:
        os.close(1)
        if path is not None:
            opened = os.open(path, os.O_WRONLY)
            if opened != 1:
                os.dup2(opened, 1)
                os.close(opened)
        sys.stdout = open(1, "w", closefd=False) if path is not None else None  # noqa: SIM115

    return prepare
