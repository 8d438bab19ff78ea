"""Telling whether a file is still the one that an earlier run read, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
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
