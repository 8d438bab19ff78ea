"""Computed indices on disk: built once, found again by their content, shared by all processes.

    <folder>/<kind>-<key>.npy     an array in NumPy's format, and after it 40 bytes:
        b"DB1INDEX" | 24 characters: the key again | u32 CRC-32 of all before | u32 zero

The key hashes the kind, the parameters and the arrays that the index was computed from, so a store
that changed has another key. A file is written beside, flushed and renamed: other processes see
all of it or nothing, and two that build at once write the same. A file whose checksum, key or
length is wrong is built again. Readers map the file, so that its pages are shared by all.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from db1.files import sync_folder
from db1.runtime import cache_folder

logger = logging.getLogger(__name__)

FOLDER = ".index"
VERSION = 1
_TRAILER = struct.Struct("<8s24sII")
_MAGIC = b"DB1INDEX"
_CHUNK = 1 << 22
_STALE_SECONDS = 86_400


class IndexCache:
    """A folder of computed arrays.

    Args:
        beside: The data that the indices belong to: they go to its sub-folder `.index`. None, or
            a folder that cannot be written: they go to `DB1_CACHE` or ~/.cache/db1.
    """

    def __init__(self, beside: Path | None = None) -> None:
        self._beside = beside

    def array(
        self,
        kind: str,
        build: Callable[[], np.ndarray],
        *,
        parameters: Mapping[str, int | str] | None = None,
        inputs: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Returns the array that `build` gives, from the disk where it is there.

        Args:
            kind: Name of the index, letters and dashes.
            build: Computes it from the parameters and inputs and nothing else.
            parameters: Numbers and names that it depends on.
            inputs: Arrays that it depends on.

        Returns:
            Read-only array, mapped from the disk. Where no folder can be written, a warning is
            logged and the array lies in memory.
        """
        key = _key_of(kind, parameters or {}, inputs or {})
        name = f"{kind}-{key}.npy"
        folders = self._folders()
        for folder in folders:
            found = _read(folder / name, key)
            if found is not None:
                return found
        array = np.ascontiguousarray(build())
        for folder in folders:
            try:
                _write(folder / name, key, array)
            except OSError as error:
                logger.warning("%s: cannot keep an index here (%s)", folder, error)
                continue
            written = _read(folder / name, key)
            if written is not None:
                return written
        array.flags.writeable = False
        return array

    def _folders(self) -> list[Path]:
        elsewhere = cache_folder() / "index"
        if self._beside is None or not os.access(self._beside, os.W_OK):
            return [elsewhere]
        return [self._beside / FOLDER, elsewhere]


def _key_of(
    kind: str, parameters: Mapping[str, int | str], inputs: Mapping[str, np.ndarray]
) -> str:
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps([VERSION, kind, dict(sorted(parameters.items()))]).encode())
    for name, array in sorted(inputs.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read(path: Path, key: str) -> np.ndarray | None:
    """The array of a whole file, None where there is none or it is damaged."""
    try:
        with open(path, "rb") as file:
            dtype, shape, offset = _checked(file, key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s: %s; building this index again", path, error)
        return None
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def _checked(file: BinaryIO, key: str) -> tuple[np.dtype, tuple[int, ...], int]:
    """Dtype, shape and first byte of a file's array; raises ValueError for a damaged file."""
    np.lib.format.read_magic(file)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    offset = file.tell()
    end = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size = os.fstat(file.fileno()).st_size
    if fortran_order or dtype.hasobject or size != end + _TRAILER.size:
        raise ValueError(f"{size} bytes, expected {end + _TRAILER.size}")
    file.seek(0)
    crc, left = 0, end
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise ValueError("the file ends early")
        crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    if file.read() != _TRAILER.pack(_MAGIC, key.encode(), crc, 0):
        raise ValueError("checksum or key is wrong")
    return dtype, shape, offset


def _write(path: Path, key: str, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            header, data = _header_of(array), _bytes_of(array)
            crc = zlib.crc32(data, zlib.crc32(header))
            file.write(header)
            file.write(data)
            file.write(_TRAILER.pack(_MAGIC, key.encode(), crc, 0))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _header_of(array: np.ndarray) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue()


def _bytes_of(array: np.ndarray) -> memoryview | bytes:
    return memoryview(array).cast("B") if array.size else b""


def _remove_stale(folder: Path) -> None:
    """Removes what processes that were killed a day ago or earlier left behind."""
    limit = time.time() - _STALE_SECONDS
    for path in folder.glob(".*.tmp"):
        try:
            if path.stat().st_mtime < limit:
                path.unlink()
        except OSError:
            continue  # another process was faster
