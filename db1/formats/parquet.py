"""Rows of parquet files one at a time: a row is one episode, whatever its row group holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.failures import one_line
from db1.formats.fields import BadEpisode

_BUFFER = 1 << 20
_BATCH_ROWS = 256


class ParquetRows:
    """The rows of parquet files, in the order of the files.

    Args:
        files: Paths, or anything that `open_file` of fsspec opens ("hf://...").
        columns: Columns that must be there.
        where: Names the source.

    Attributes:
        num_rows: In all files.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: A file that is no parquet, or files with different columns.
    """

    def __init__(self, files: Sequence[str], where: str) -> None:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise MissingExtra("pyarrow", "import", f"reading {where}") from None
        if not files:
            raise DataError(f"{where}: no parquet file")
        self._parquet = parquet
        self.files = list(files)
        self.where = where
        self.schema: Any = None
        self._num_rows = []
        for file in self.files:
            opened = self._open(file)
            schema = opened.schema_arrow.remove_metadata()
            if self.schema is not None and schema.names != self.schema.names:
                raise DataError(
                    f"{file}: columns {schema.names}, the files before have {self.schema.names}"
                )
            self.schema = self.schema or schema
            self._num_rows.append(opened.metadata.num_rows)
            opened.close()
        self.num_rows = sum(self._num_rows)

    def rows(self, first: int, columns: Sequence[str]) -> Iterator[Any]:
        """Yields the rows from `first` on, each a RecordBatch of one row.

        Raises:
            DataError: A file is truncated or broken.
        """
        for file, num_rows in zip(self.files, self._num_rows, strict=True):
            if first >= num_rows:
                first -= num_rows
                continue
            yield from self._rows_of(file, first, columns)
            first = 0

    def _rows_of(self, file: str, first: int, columns: Sequence[str]) -> Iterator[Any]:
        import pyarrow

        opened = self._open(file)
        try:
            groups, start = [], 0
            for group in range(opened.metadata.num_row_groups):
                stop = start + opened.metadata.row_group(group).num_rows
                if stop > first:
                    groups.append(group)
                else:
                    first -= stop - start
                    stop = start
                start = stop
            batches = opened.iter_batches(
                batch_size=1, row_groups=groups, columns=list(columns), use_threads=False
            )
            for number, batch in enumerate(batches):
                if number >= first:
                    yield batch
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{file}: cannot be read, or truncated ({one_line(str(error))})"
            ) from None
        finally:
            opened.close()

    def _open(self, file: str) -> Any:
        import pyarrow

        try:
            if "://" in file:
                import fsspec

                stream = fsspec.open(file, "rb").open()
                opened = self._parquet.ParquetFile(stream, pre_buffer=False)
            else:
                opened = self._parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
            _ = opened.schema_arrow.names  # which may be no text
            return opened
        except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{file}: not a parquet file, or truncated ({one_line(str(error))})"
            ) from None


class RowCursor:
    """Runs of rows of parquet files that are read forward.

    What is left of a batch is kept for the next call, so that a file is decoded once however its
    rows are grouped, and no more of it is in memory than a run and a batch.

    Args:
        columns: Columns that are read.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._path: Path | None = None
        self._file: Any = None
        self._batches: Iterator[Any] = iter(())
        self._rest: Any = None
        self._next = 0

    def rows(self, path: Path, first: int, count: int) -> Any:
        """Rows [first, first + count) of a file, a `pyarrow.Table`.

        Raises:
            MissingExtra: pyarrow is not installed.
            BadEpisode: The file cannot be read there, lacks a column, or ends early.
        """
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise MissingExtra("pyarrow", "import", f"reading {path}") from None
        try:
            if self._path != path or first < self._next:
                self.close()
                self._file = parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
                self._path = path
                self._start_at(first)
            return pyarrow.Table.from_batches(list(self._take(first, count)))
        except (OSError, pyarrow.ArrowException) as error:
            self.close()
            raise BadEpisode(
                f"{path}: not a parquet file, or truncated ({one_line(str(error))})"
            ) from None

    def close(self) -> None:
        """Lets the file go."""
        if self._file is not None:
            self._file.close()
        self._path = self._file = self._rest = None
        self._batches, self._next = iter(()), 0

    def _start_at(self, first: int) -> None:
        """Begins at the row group that holds row `first`."""
        missing = set(self._columns) - set(self._file.schema_arrow.names)
        if missing:
            raise BadEpisode(
                f"{self._path}: no column {sorted(missing)[0]!r}, it has "
                f"{', '.join(self._file.schema_arrow.names)}"
            )
        metadata, start, group = self._file.metadata, 0, 0
        while group < metadata.num_row_groups:
            size = metadata.row_group(group).num_rows
            if start + size > first:
                break
            start, group = start + size, group + 1
        self._next = start
        self._batches = self._file.iter_batches(
            batch_size=_BATCH_ROWS,
            row_groups=list(range(group, metadata.num_row_groups)),
            columns=self._columns,
            use_threads=False,
        )

    def _take(self, first: int, count: int) -> Iterator[Any]:
        """Yields the batches, cut to the rows asked for."""
        last = first + count
        while self._next < last:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            self._rest = None
            if batch is None:
                raise BadEpisode(
                    f"{self._path}: {self._next} rows, expected {last} or more; it was cut short"
                )
            begin = max(first - self._next, 0)
            end = min(last - self._next, batch.num_rows)
            if begin < end:
                yield batch.slice(begin, end - begin)
            if end < batch.num_rows and end > 0:
                self._rest = batch.slice(end)
            self._next += max(end, 0) if end < batch.num_rows else batch.num_rows


def find_parquet(path: Path, split: str) -> list[str]:
    """The parquet files of a split: those named `<split>-*.parquet` (or `<split>.parquet`) in the
    folder or below it, else all of them; or the file itself.

    Raises:
        DataError: There is none, or more than one folder has some.
    """
    if path.is_file():
        return [str(path)]
    files = sorted(path.rglob("*.parquet"))
    named = [f for f in files if f.name == f"{split}.parquet" or f.name.startswith(f"{split}-")]
    chosen = named or files
    folders = {str(file.parent) for file in chosen}
    if len(folders) > 1:
        raise DataError(
            f"{path}: parquet files in {len(folders)} folders ({', '.join(sorted(folders)[:3])}, "
            "...); name the folder of one task"
        )
    if not chosen:
        raise DataError(f"{path}: no .parquet file in this folder")
    return [str(file) for file in chosen]


def dense(array: Any, where: str) -> np.ndarray:
    """Nested lists of one length a level (a pyarrow list array) -> an array.

    Example: [[1, 2], [3, 4], [5, 6]] -> shape (3, 2).

    Raises:
        BadEpisode: Ragged lists, or a missing value.
    """
    shape = [len(array)]
    while is_list(array.type):
        if array.null_count:
            raise BadEpisode(f"{where}: {array.null_count} missing values")
        shape.append(_length(array, where))
        array = array.flatten()
    if array.null_count:
        raise BadEpisode(f"{where}: {array.null_count} missing values")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def shaped(column: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Rows of numbers, or of lists of any depth, as an array (rows, *shape).

    Args:
        column: A pyarrow array or chunked array.
        shape: Of one row.
        where: Names the column.

    Raises:
        BadEpisode: A missing value, or another number of values.
    """
    import pyarrow

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    num_rows = len(array)
    while is_list(array.type):
        if array.null_count:
            raise BadEpisode(f"{where}: {array.null_count} missing values")
        array = array.flatten()
    if array.null_count:
        raise BadEpisode(f"{where}: {array.null_count} missing values")
    size = num_rows * int(np.prod(shape, dtype=np.int64))
    if len(array) != size:
        raise BadEpisode(
            f"{where}: {len(array)} values in {num_rows} rows, expected shape {shape} a row"
        )
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(num_rows, *shape)


def is_list(kind: Any) -> bool:
    """True for the types of lists, whatever their lengths are written as."""
    from pyarrow import types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def innermost(kind: Any) -> tuple[Any, int]:
    """The type inside lists of lists, and how many lists there are around it."""
    depth = 0
    while is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return kind, depth


def _length(array: Any, where: str) -> int:
    """The length that all lists of an array have; 0 where there is no list."""
    from pyarrow import types

    if types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    lengths = np.diff(np.asarray(array.offsets))
    if len(lengths) and (lengths != lengths[0]).any():
        raise BadEpisode(
            f"{where}: ragged shapes, lists of {lengths.min()} to {lengths.max()} values"
        )
    return int(lengths[0]) if len(lengths) else 0
