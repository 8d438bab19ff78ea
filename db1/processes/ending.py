"""End of a training's process: after everything else, and never by an abort."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs a program and ends its process without taking the interpreter down.

    Threads and exit handlers end as ever. But the threads of a process group (DeepSpeed keeps it to
    the end) may still be dropping the tensors of the last messages. One that asks a closing
    interpreter for its lock is ended by force, in the middle of C++: `terminate called without an
    active exception`, and work that is done counts as failed.

    Args:
        main: Returns the exit status; it is 1 where an error leaves `main`.
    """
    status = 1

    def end() -> None:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.flush()
        os._exit(status)

    atexit.register(end)  # before the work registers others: it runs after them
    try:
        status = main()
    except SystemExit as stopped:  # --help
        status = stopped.code if isinstance(stopped.code, int) else 1
    sys.exit(status)
