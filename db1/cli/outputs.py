"""Files that options name and verbs write: a slip of the hand does not cost another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from db1.errors import ConfigError

PAGE = (".html", ".htm")
"""Endings of a page."""

Named = TypeVar("Named", Path, str, None)


def writes(*endings: str) -> Callable[[typer.CallbackParam, Named], Named]:
    """Makes the callback of an option that names a file to write.

    A file that is there is replaced only where its ending is one of `endings`, or it has none: in
    `db1 inspect --html experiment.yaml` the page's name was forgotten.

    Args:
        endings: With the dot, lower case.
    """

    def check(option: typer.CallbackParam, given: Named) -> Named:
        path = Path(given) if given is not None else None
        ending = path.suffix.lower() if path is not None else ""
        if path is not None and ending and ending not in endings and path.is_file():
            raise ConfigError(
                f"{option.opts[0]} {path}: is there and is no {' or '.join(endings)} file, so it "
                f"is not replaced; name another file"
            )
        return given

    return check


JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write all figures to this file.",
        callback=writes(".json"),
    ),
]
"""The option of verbs whose figures go into a file."""
