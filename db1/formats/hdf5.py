"""Opening and reading HDF5 files with errors of db1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra

_CHUNK_CACHE = 8 << 20
_MOST_PACKED = 1_100
"""No filter of HDF5 makes values smaller than by this factor (deflate: 1,032)."""
_MOST_MISSING = 64 << 20


def open_hdf5(path: Path) -> Any:
    """Opens an HDF5 file for reading: an `h5py.File`.

    Raises:
        MissingExtra: h5py is not installed.
        DataError: No file, no HDF5, or a truncated one.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("h5py", "import", f"reading {path}") from None
    try:
        file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file, or a truncated one ({error})") from None
    status = path.stat()
    try:
        _check_contained(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    except BaseException:
        file.close()
        raise
    return file


@lru_cache(maxsize=64)
def _check_contained(path: Path, state: tuple[int, ...]) -> None:
    """Refuses a file that is made of others: it would read what its reader may, not its sender.

    Args:
        path: The file.
        state: Changes with the file's content.

    Raises:
        DataError: Naming a link to another file, or an array whose values lie in one.
    """
    import h5py

    names: list[bytes] = []

    def visit(name: bytes, info: Any) -> None:
        if info.type == h5py.h5l.TYPE_HARD:
            names.append(name)
        elif info.type != h5py.h5l.TYPE_SOFT:  # soft ones stay in the file
            others.append(name)

    others: list[bytes] = []
    with readable(path), h5py.File(path, "r") as file:
        file.id.links.visit(visit, info=True)
        for name in others:
            link = file.get(name, getlink=True)
            target = "elsewhere"
            if hasattr(link, "filename"):
                is_gone = not (path.parent / link.filename).exists()
                target = f"{link.path} of {link.filename}" + (", which is missing" * is_gone)
            raise _made_of_others(path, name, f"a link to {target}")
        for name in names:
            if h5py.h5o.get_info(file.id, name).type != h5py.h5o.TYPE_DATASET:
                continue
            creation = h5py.h5d.open(file.id, name).get_create_plist()
            if creation.get_external_count():
                outside = creation.get_external(0)[0].decode(errors="replace")
                raise _made_of_others(path, name, f"an array whose values lie in {outside}")
            if creation.get_layout() == h5py.h5d.VIRTUAL:
                raise _made_of_others(path, name, "a virtual array, made of other files")


def _made_of_others(path: Path, name: bytes, what: str) -> DataError:
    return DataError(
        f"{path}: {name.decode(errors='replace')!r} is {what}; other files are not read through "
        "this one; copy the values into it (`h5repack` does)"
    )


def array_of(file: Any, key: str, path: Path) -> Any:
    """The data set `key` of an open file.

    Raises:
        DataError: It is missing, is a group, or has a dtype that only code could read.
    """
    import h5py

    found = file.get(key)
    if isinstance(found, h5py.Group):
        parts = ", ".join(sorted(found)) or "nothing"
        raise DataError(
            f"{path}: {key!r} is a group with {parts} (a goal task?), expected one array"
        )
    if not isinstance(found, h5py.Dataset):
        listed = ", ".join(sorted(file)) or "nothing"
        raise DataError(f"{path}: no array {key!r}; the file has {listed}")
    if found.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: array {key!r} has dtype {found.dtype}, expected floats, integers or booleans"
        )
    _check_shape(found, key, path)
    return found


def _check_shape(array: Any, key: str, path: Path) -> None:
    """Refuses what is not one row a step, or much larger than what the file holds of it."""
    if array.shape is None or (array.shape and 0 in array.shape):
        raise DataError(f"{path}: array {key!r} is empty (shape {array.shape}), expected steps")
    if array.shape == ():
        raise DataError(f"{path}: {key!r} is a single number, expected an array of one row a step")
    declared, held = array.size * array.dtype.itemsize, array.id.get_storage_size()
    if declared > max(_MOST_MISSING, _MOST_PACKED * held):
        raise DataError(
            f"{path}: array {key!r} declares {declared:,} bytes (shape {array.shape}), and the "
            f"file holds {held:,} of it; the file is broken, or was never filled"
        )


def check_lengths(arrays: Sequence[Any], path: Path) -> int:
    """Number of rows that all arrays have; DataError when they differ."""
    lengths = {array.name.strip("/"): len(array) for array in arrays}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path}: arrays of different lengths {lengths}; the file is broken")
    return next(iter(lengths.values()))


def read_rows(array: Any, first: int, last: int, path: Path) -> np.ndarray:
    """Rows [first, last) of a data set; DataError when the file cannot be read there."""
    try:
        return array[first:last]
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: {array.name}[{first}:{last}] cannot be read ({error})") from None


def value_range(array: Any, path: Path) -> tuple[int, int]:
    """Smallest and largest value of an integer data set, read in pieces; (0, 0) when empty."""
    low, high = None, None
    step = max(1, (16 << 20) // max(1, int(np.prod(array.shape[1:])) * array.dtype.itemsize))
    for first in range(0, len(array), step):
        rows = read_rows(array, first, min(first + step, len(array)), path)
        low = int(rows.min()) if low is None else min(low, int(rows.min()))
        high = int(rows.max()) if high is None else max(high, int(rows.max()))
    return low or 0, high or 0


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what h5py raises about a damaged file into one error that names it.

    Raises:
        DataError: Its groups, names, attributes or types cannot be read.
    """
    try:
        yield
    except (DataError, MissingExtra):
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: a damaged HDF5 file ({reason})") from None
