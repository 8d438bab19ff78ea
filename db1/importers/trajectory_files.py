"""Files of trajectories in HDF5, NPZ, Parquet and pickled dicts, behind one interface.

A file holds *blocks*, each with arrays of one row a step: the groups of an HDF5 file, or the whole
file as the block "". Rows are read forward; what was read is not kept.
"""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.formats.fields import BadEpisode
from db1.formats.hdf5 import array_of, open_hdf5, read_rows
from db1.formats.parquet import RowCursor, dense
from db1.formats.picture_bytes import decode_all
from db1.formats.plain_pickle import load_plain

ROOT = ""
_MAX_HEADER = 1 << 16


def natural(name: str) -> list[Any]:
    """Sorting key that puts `part_10` after `part_9`."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name) if p]


class TrajectoryFile(ABC):
    """One open file.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def blocks(self) -> list[str]:
        """Names of the blocks in order."""

    @abstractmethod
    def keys(self, block: str) -> list[str]:
        """Names of a block's arrays."""

    @abstractmethod
    def num_rows(self, block: str, key: str) -> int:
        """Rows of an array."""

    @abstractmethod
    def rows(self, block: str, key: str, first: int, last: int) -> np.ndarray:
        """Rows [first, last) of an array; BadEpisode where they cannot be read."""

    def text(self, block: str, key: str) -> str | None:
        """The text that an array, or in HDF5 an attribute `@name`, holds; None without one."""
        values = self.rows(block, key, 0, 1)
        return str(values.reshape(-1)[0]) if values.size else None

    @abstractmethod
    def close(self) -> None:
        """Lets the file go."""


class Hdf5Trajectories(TrajectoryFile):
    """Arrays at the root, or in groups; a lone group that holds groups is gone through."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = open_hdf5(path)

    def blocks(self) -> list[str]:
        import h5py

        place, prefix = self._file, ""
        while True:
            children = {name: place.get(name, getclass=True) for name in place}
            groups = [name for name, kind in children.items() if kind is h5py.Group]
            if len(groups) < len(children) or not groups:
                return [ROOT]
            nested = place[groups[0]]
            deeper = all(nested.get(name, getclass=True) is h5py.Group for name in nested)
            if len(groups) > 1 or not deeper or not len(nested):
                return [f"{prefix}{name}" for name in sorted(groups, key=natural)]
            place, prefix = nested, f"{prefix}{groups[0]}/"

    def keys(self, block: str) -> list[str]:
        import h5py

        found: list[str] = []
        group = self._group(block)

        def visit(name: str, entry: Any) -> None:
            if isinstance(entry, h5py.Dataset):
                found.append(name)

        group.visititems(visit)
        return sorted([*found, *(f"@{name}" for name in group.attrs)])

    def num_rows(self, block: str, key: str) -> int:
        return len(array_of(self._group(block), key, self.path))

    def rows(self, block: str, key: str, first: int, last: int) -> np.ndarray:
        return read_rows(array_of(self._group(block), key, self.path), first, last, self.path)

    def text(self, block: str, key: str) -> str | None:
        group = self._group(block)
        found = group.attrs.get(key[1:]) if key.startswith("@") else group.get(key)
        if found is None:
            return None
        value = found[()] if hasattr(found, "shape") and found.shape == () else found
        value = value if isinstance(value, str | bytes) else np.asarray(value).reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def close(self) -> None:
        self._file.close()

    def _group(self, block: str) -> Any:
        return self._file[block] if block else self._file


class NpzTrajectories(TrajectoryFile):
    """Arrays of an .npz file, compressed or not, read forward out of the archive."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise BadEpisode(f"{path}: not an NPZ file, or truncated ({error})") from None
        self._members: dict[str, tuple[Any, int, tuple[int, ...], np.dtype]] = {}

    def blocks(self) -> list[str]:
        return [ROOT]

    def keys(self, block: str) -> list[str]:
        return sorted(name.removesuffix(".npy") for name in self._archive.namelist())

    def num_rows(self, block: str, key: str) -> int:
        shape = self._member(key)[2]
        return shape[0] if shape else 1

    def rows(self, block: str, key: str, first: int, last: int) -> np.ndarray:
        stream, begin, shape, dtype = self._member(key)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        last = min(last, shape[0] if shape else 1)
        try:
            stream.seek(begin + first * size)
            content = stream.read((last - first) * size)
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise BadEpisode(f"{self.path}: {key!r} is truncated or corrupt ({error})") from None
        if len(content) != (last - first) * size:
            raise BadEpisode(f"{self.path}: {key!r} is truncated")
        return np.frombuffer(content, dtype).reshape(last - first, *shape[1:])

    def close(self) -> None:
        for stream, *_ in self._members.values():
            stream.close()
        self._archive.close()

    def _member(self, key: str) -> tuple[Any, int, tuple[int, ...], np.dtype]:
        """Stream, first byte of the values, shape and dtype."""
        if key not in self._members:
            try:
                stream = self._archive.open(f"{key}.npy")
                header = _npy_header(stream)
            except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
                raise BadEpisode(f"{self.path}: {key!r} cannot be read ({error})") from None
            shape, is_fortran, dtype = header
            if dtype.hasobject or (is_fortran and len(shape) > 1):
                kind = "objects (a pickle)" if dtype.hasobject else "Fortran order"
                raise DataError(f"{self.path}: {key!r} holds {kind}; write plain arrays in C order")
            self._members[key] = (stream, stream.tell(), shape, dtype)
        return self._members[key]


class ParquetTrajectories(TrajectoryFile):
    """Columns of a Parquet file: numbers, lists of them, texts, pictures as PNG or JPEG bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            from db1.errors import MissingExtra

            raise MissingExtra("pyarrow", "import", f"reading {path}") from None
        try:
            with parquet.ParquetFile(path) as file:
                self._schema, self._num_rows = file.schema_arrow, file.metadata.num_rows
        except (OSError, pyarrow.ArrowException) as error:
            raise BadEpisode(f"{path}: not a parquet file, or truncated ({error})") from None
        self._cursors: dict[str, RowCursor] = {}

    def blocks(self) -> list[str]:
        return [ROOT]

    def keys(self, block: str) -> list[str]:
        return list(self._schema.names)

    def num_rows(self, block: str, key: str) -> int:
        return self._num_rows

    def rows(self, block: str, key: str, first: int, last: int) -> np.ndarray:
        cursor = self._cursors.setdefault(key, RowCursor([key]))
        last = min(last, self._num_rows)
        column = cursor.rows(self.path, first, last - first).column(0).combine_chunks()
        return column_values(column, f"{self.path}: {key}")

    def close(self) -> None:
        for cursor in self._cursors.values():
            cursor.close()


class PickledTrajectories(TrajectoryFile):
    """A dict of arrays that `numpy.save` pickled, as in gen_dgrl; read without running anything."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        content = load_plain(path)
        if not isinstance(content, Mapping):
            raise BadEpisode(f"{path}: holds a {type(content).__name__}, expected a dict of arrays")
        self._arrays = {str(key): np.asarray(value) for key, value in content.items()}

    def blocks(self) -> list[str]:
        return [ROOT]

    def keys(self, block: str) -> list[str]:
        return sorted(self._arrays)

    def num_rows(self, block: str, key: str) -> int:
        return len(np.atleast_1d(self._arrays[key]))

    def rows(self, block: str, key: str, first: int, last: int) -> np.ndarray:
        return np.atleast_1d(self._arrays[key])[first:last]

    def close(self) -> None:
        self._arrays = {}


READERS: Mapping[str, type[TrajectoryFile]] = {
    ".hdf5": Hdf5Trajectories,
    ".h5": Hdf5Trajectories,
    ".npz": NpzTrajectories,
    ".parquet": ParquetTrajectories,
    ".npy": PickledTrajectories,
}


def open_trajectories(path: Path) -> TrajectoryFile:
    """Opens a file by its suffix.

    Raises:
        DataError: It cannot be read.
        MissingExtra: The package that reads it is not installed.
    """
    return READERS[path.suffix](path)


def column_values(column: Any, where: str) -> np.ndarray:
    """A Parquet column of N rows as an array (N, ...); texts (N,) are objects.

    Raises:
        BadEpisode: Missing values, ragged lists, pictures of several sizes.
    """
    import pyarrow
    from pyarrow import types

    if isinstance(column, pyarrow.ExtensionArray):  # as `datasets` writes Array3D
        column = column.storage
    if types.is_struct(column.type) or types.is_binary(column.type):
        entries = column.to_pylist()
        contents = [one.get("bytes") if isinstance(one, Mapping) else one for one in entries]
        return decode_all(contents, where)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return dense(column, where)


def _npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"NPY version {version}, expected 1.0 or 2.0")
    return read(stream, max_header_size=_MAX_HEADER)
