"""The exceptions of db1. Every one carries a message that says what, where, got, expected, fix.

The command line prints the message in one line and exits with status 2; `--debug` shows the
traceback. Anything else that is raised is a bug of db1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Db1Error(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(Db1Error):
    """A configuration key, value or combination that cannot be used."""


class DataError(Db1Error):
    """Stored or given data that is broken, foreign or outside its space."""


class CheckpointError(Db1Error):
    """A checkpoint that is incomplete, foreign or does not fit the model."""


class MissingExtra(Db1Error):
    """An optional package is not installed.

    Args:
        package: Name of the package that failed to import.
        extra: The extra of db1 that installs it, as in `pip install "db1[extra]"`.
        needed_for: What the user asked for.
    """

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for}: the package {package!r} is not installed; "
            f'run: pip install "db1[{extra}]"'
        )
        self.package = package
        self.extra = extra


def check_one_of(name: str, got: object, known: Iterable[str]) -> None:
    """Raises ConfigError where a setting has none of the known values; names the nearest."""
    choices = list(known)
    if got not in choices:
        expected = ", ".join(map(repr, choices))
        raise ConfigError(
            f"{name}: got {got!r}, expected one of {expected}{nearest(str(got), choices)}"
        )


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Returns the text `; did you mean a, b?` for the known names nearest to `name`, or ``""``."""
    close = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
