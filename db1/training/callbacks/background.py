"""Runs a command at low priority that ends with the process it works for.

    python -m db1.training.callbacks.background NICE PARENT COMMAND...

The trainer does not fork with its threads and communicators: it starts this, which lowers its
priority and becomes the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Becomes the command.

    Args:
        arguments: Nice level on top of the caller's, process id of the caller, command.
    """
    level, parent, *command = arguments
    os.nice(int(level))
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere it lives on
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent):  # else it died before that took hold
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
