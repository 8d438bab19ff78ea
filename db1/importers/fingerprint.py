"""Telling whether a file is still the one that an earlier run read, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from db1.errors import DataError

_END_BYTES = 1 << 20


def fingerprint(files: Iterable[Path]) -> str:
    """Hash (16 hex digits) over the names, the sizes, the first and the last MiB of files."""
    digest = hashlib.sha256()
    for file in files:
        try:
            size = file.stat().st_size
            digest.update(f"{file.name}\0{size}\0".encode())
            with open(file, "rb") as stream:
                digest.update(stream.read(_END_BYTES))
                stream.seek(max(0, size - _END_BYTES))
                digest.update(stream.read(_END_BYTES))
        except OSError as error:
            raise DataError(f"{file}: cannot read it ({error})") from None
    return digest.hexdigest()[:16]


def listing_fingerprint(files: Sequence[Path], root: Path) -> str:
    """Hash (16 hex digits) over the names and sizes of many files, and the first and last of them.

    Args:
        files: At least one.
        root: Folder that names are relative to; a file stands for its own folder.
    """
    base = root if root.is_dir() else root.parent
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(base).as_posix()}\0{file.stat().st_size}\0".encode())
    digest.update(fingerprint([files[0], files[-1]]).encode())
    return digest.hexdigest()[:16]
