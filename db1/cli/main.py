"""Entry point of the `db1` command: its verbs, exit statuses and the one-line error.

Exit status 0: done; 1: a check failed (parity); 2: bad usage or bad input, one clear line on
stderr; `--debug` shows the traceback of an error.
"""

from __future__ import annotations

import sys

import typer

from db1.cli import (
    acting,
    bench,
    collect,
    convert,
    demo,
    importing,
    inspect,
    launch,
    learning,
    machine,
    perplexity,
    reporting,
    scoring,
    seeing,
    tasks,
    watching,
    writing,
)
from db1.errors import Db1Error
from db1.runtime import current_rank, keep_freed_memory, setup_logging

app = typer.Typer(
    name="db1",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="db1: one TransformerXL that writes, sees and acts. `db1 VERB --help` has examples. "
    "Add --debug anywhere for the traceback of an error.",
)
for module in (
    machine,
    collect,
    inspect,
    learning,
    launch,
    convert,
    acting,
    reporting,
    writing,
    perplexity,
    watching,
    seeing,
    demo,
):
    for name, verb in module.VERBS.items():
        app.command(name)(verb)
app.add_typer(bench.app, name="bench")
app.add_typer(tasks.app, name="tasks")
app.add_typer(scoring.app, name="score")
app.add_typer(importing.app, name="import")
app.add_typer(importing.export_app, name="export")


def main() -> None:
    """Runs the command line and turns errors into one line and an exit status."""
    setup_logging(current_rank().rank)
    keep_freed_memory()
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments, prog_name="db1")
    except Db1Error as error:
        if debug:
            raise
        if current_rank().is_main:  # the processes of a launch meet the same error
            print(f"db1: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
