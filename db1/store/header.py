"""header.json of a store: written once in one move, read strictly, compared before appending."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from db1.errors import DataError
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json, parse_json_file, seal, unseal

HEADER_FILE = "header.json"


class Header:
    """Base of the headers, which are frozen dataclasses with `created_by` and `version`."""

    FORMAT: ClassVar[str]
    """Written as `format`; tells stores of one kind from others."""

    def label(self) -> str:
        """The store's name in errors."""
        raise NotImplementedError

    def content(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Returns the contents of header.json; raises DataError for what JSON cannot hold."""
        try:
            return parse_json(json.dumps({"format": self.FORMAT, **self.content()}))
        except (TypeError, ValueError) as error:
            raise DataError(f"header of {self.label()}: not JSON-able ({error})") from None

    def difference(self, other: Header) -> str | None:
        """Returns where `other` differs ("spec.action.shape: ..."), or None.

        What made the store (`created_by`, `version`) plays no part.
        """
        ignored = {"created_by": "", "version": 0}
        return _difference(self.to_dict() | ignored, other.to_dict() | ignored, "")


class StoredFiles(Protocol):
    """The files of one store."""

    path: Path

    def paths(self) -> Sequence[Path]:
        """Paths of the files, those of the records last."""
        ...


def read_content(
    path: Path, kind: type[Header], newest: int, shape: Mapping[str, Any], missing: str
) -> dict[str, Any]:
    """Reads header.json of the store in folder `path`.

    Args:
        path: Folder of the store.
        kind: Class of the header.
        newest: Version of the format that this db1 writes.
        shape: Of the fields, as of `check_shape`.
        missing: What is said where there is no header.

    Raises:
        DataError: Not a store, another format, a newer version, or changed since.
    """
    file = path / HEADER_FILE
    try:
        content = parse_json_file(file)
    except FileNotFoundError:
        raise DataError(missing) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: unreadable header ({error}); make the store again") from None
    if not isinstance(content, dict) or content.get("format") != kind.FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{file}: format {found!r}, expected {kind.FORMAT!r}")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= newest:
        raise DataError(
            f"{file}: version {version!r}, this db1 reads 1..{newest}; install a newer db1"
        )
    content, is_whole = unseal(content)
    check_shape(content, shape, file)
    if not is_whole:
        raise changed(file)
    return content


def changed(file: Path) -> DataError:
    """The error of a JSON file of a store that differs from its checksum."""
    return DataError(
        f"{file}: differs from its checksum, so it was changed after it was written; put the "
        "original back, or remove `checksum` from it to take it as it is"
    )


def broken(path: Path, error: Exception) -> DataError:
    """The error of a header whose fields are not those of its class."""
    return DataError(f"{path / HEADER_FILE}: broken header ({error}); make the store again")


def write_header(path: Path, header: Header) -> None:
    """Makes the folder and its header.json, in one move: it is never seen half-written."""
    content = json.dumps(seal(header.to_dict()), indent=2) + "\n"
    path.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path / HEADER_FILE, content)


def prepare_folder(stored: StoredFiles, header: Header, existing: Header | None) -> None:
    """Makes the folder and its header, or checks that the existing header is the same.

    Args:
        stored: The files of the store.
        header: What is to be written.
        existing: What lies there; None: nothing.

    Raises:
        DataError: Another header, or files without one.
    """
    path = stored.path
    if existing is not None:
        found = existing.difference(header)
        if found:
            raise DataError(
                f"{path}: the store was made with another header ({found}); write to another folder"
            )
        return
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: a file, expected a folder for the store")
    for file in stored.paths():
        if file.exists():
            raise DataError(f"{file} exists without a {HEADER_FILE}; write to another folder")
    write_header(path, header)


def _difference(mine: Any, theirs: Any, where: str) -> str | None:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in sorted(mine.keys() | theirs.keys()):
            inner = f"{where}.{key}" if where else key
            if key not in mine or key not in theirs:
                holder = "only there" if key in mine else "only in the new header"
                return f"{inner}: {holder}"
            found = _difference(mine[key], theirs[key], inner)
            if found:
                return found
        return None
    return None if mine == theirs else f"{where}: there {mine!r}, new {theirs!r}"
