"""Entry point of the `db1` command: its verbs, exit statuses and the one-line error.

Exit status 0: done; 1: a check failed (parity); 2: bad usage, bad input or no room, one clear line
on stderr; 70: a fault of db1 itself; 130: interrupted. `--debug` shows the traceback of an error.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from db1.cli.lazy import LazyVerbs
from db1.cli.plugin_option import load_named_plugins
from db1.errors import Db1Error
from db1.failures import (
    describe,
    flush_standard_output,
    give_up_standard_output,
    one_line,
    open_standard_streams,
)

EXIT_BAD_INPUT = 2
EXIT_BUG = 70
LAUNCHED = ("eval", "train")
"""Verbs that a launcher starts several processes of."""

app = typer.Typer(
    name="db1",
    cls=LazyVerbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    help="db1: one TransformerXL that writes, sees and acts. `db1 VERB --help` has examples. "
    "Add --debug anywhere for the traceback of an error, --plugin FILE.py (or a module) for "
    "suites of your own."
)
def _about() -> None:
    pass


_CLICK_ERROR = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
_ABORTED = 130


def main() -> None:
    """Runs the command line and turns errors into one line and an exit status."""
    open_standard_streams()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    status = _run(arguments, debug="--debug" in sys.argv[1:])
    failure = flush_standard_output()
    if failure and status in (0, 1):  # else an error was told
        _tell(failure)
        status = EXIT_BAD_INPUT
    sys.exit(status)


def _run(arguments: list[str], *, debug: bool) -> int:
    """The exit status of a command line; tells of an error in one line."""
    speaks = True
    try:
        speaks = _prepare(arguments)
        rest = load_named_plugins(arguments)
        return app(rest, prog_name="db1", standalone_mode=False) or 0
    except SystemExit as ended:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer's, once a reader went away
            give_up_standard_output()
            return 0
        return ended.code if isinstance(ended.code, int) else 1
    except (KeyboardInterrupt, typer.Abort):
        return _ABORTED
    except _CLICK_ERROR as error:
        return _tell_usage(error)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            give_up_standard_output()  # whoever read it went away
            return 0
        text = describe(error)
        if text is not None and _was_printing(error):
            give_up_standard_output()
            text = f"standard output: cannot be written ({text})"
        if text is None:
            _tell(_of_bug(error))
            return EXIT_BUG
        if not isinstance(error, Db1Error) or speaks:  # the processes of a launch meet the same
            _tell(text)
        return EXIT_BAD_INPUT


def _was_printing(error: Exception) -> bool:
    """Tells whether a library that prints for us met the error."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return any(f"{os.sep}{package}{os.sep}" in last for package in ("typer", "rich"))


def _prepare(arguments: list[str]) -> bool:
    """Sets the process up; returns whether it speaks for all processes of a launch.

    Only some verbs take part in one: the variables RANK and WORLD_SIZE of a machine that somebody
    else set up for a launch mean nothing to the others.
    """
    if not set(arguments) - {"--help", "-h"}:
        return True
    from db1.runtime import Rank, current_rank, keep_freed_memory, setup_logging

    rank = current_rank() if arguments[:1] and arguments[0] in LAUNCHED else Rank()
    setup_logging(rank.rank)
    keep_freed_memory()
    return rank.is_main


def _tell_usage(error: Any) -> int:
    """A usage error in one line; the help where nothing was given at all."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_BAD_INPUT
    verb = context.command_path if context is not None else "db1"
    _tell(f"{error.format_message()} (see {verb} --help)")
    return EXIT_BAD_INPUT


def _of_bug(error: Exception) -> str:
    """One line about a fault of db1 itself: what, and where in its code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}db1{os.sep}" in frame.filename] or list(frames)
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return (
        f"internal error: {type(error).__name__}: {error} ({place}); this is a fault of db1, and "
        "--debug shows its traceback"
    )


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        print(f"db1: error: {one_line(text)}", file=sys.stderr)


if __name__ == "__main__":
    main()
