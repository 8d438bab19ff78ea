"""Code that a file names: run only where somebody named it on this machine before.

A run's configuration may name plug-ins and modules (`plugins: [my_suite.py]`, `gym/MODULE:ID`). In
one's own run they are one's own; in a run from a stranger they would be his. So what is named on
the command line, in an experiment or in Python is noted by its content in
`<cache>/known_code.json`, and what only a run or a results file names is run where it stands there,
or is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from contextlib import suppress
from pathlib import Path

from db1.files import atomic_write_text, resolved
from db1.json_shape import parse_json_file
from db1.runtime import cache_folder

FILE = "known_code.json"


def remember(place: str) -> None:
    """Notes that somebody named a .py file or a module here; without room, nothing is noted."""
    digest = _digest(place)
    if digest is None or digest in _known():
        return
    known = _known() | {digest: str(place)}
    with suppress(OSError):
        atomic_write_text(cache_folder() / FILE, json.dumps(known, indent=1) + "\n")


def is_known(place: str) -> bool:
    """True for a .py file or module that is installed, or was named here with this content."""
    digest = _digest(place)
    return digest is None or digest in _known()


def _known() -> dict[str, str]:
    try:
        found = parse_json_file(cache_folder() / FILE)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(place: str) -> str | None:
    """SHA-256 of the code at a place; None where it is installed, or not there."""
    files = [Path(place)] if place.endswith(".py") else _module_files(place)
    found = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return None
        content = file.read_bytes()
        found.update(f"{len(content)}\n".encode() + content)
    return found.hexdigest() if files else None


def _module_files(name: str) -> list[Path]:
    """Files of a module of the working folder; none of one that is installed elsewhere.

    Nothing is imported: the first part of the name tells where it lies.
    """
    top = name.partition(".")[0]
    here = resolved(Path.cwd())
    try:
        found = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or not found.origin:  # `import_place` looks in the working folder last
        candidates = [here / f"{top}.py", *sorted((here / top).rglob("*.py"))]
        return [file for file in candidates if file.is_file()]
    origin = resolved(found.origin)
    if not origin.is_relative_to(here) or origin.is_relative_to(resolved(sys.prefix)):
        return []
    is_package = bool(found.submodule_search_locations)
    return sorted(origin.parent.rglob("*.py")) if is_package else [origin]
