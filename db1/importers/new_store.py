"""Opens a store to import into, and leaves none behind that was made here and stayed empty."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from db1.errors import DataError


class Writer(Protocol):
    """A store's writer."""

    def close(self) -> None:
        """Ends the writing."""


AnyWriter = TypeVar("AnyWriter", bound=Writer)


@contextmanager
def store_or_nothing(
    path: Path, open_writer: Callable[[], AnyWriter], count: Callable[[AnyWriter], int]
) -> Iterator[AnyWriter]:
    """Opens the store; takes the folder away again when it was made here and stays empty.

    Args:
        path: Folder of the store.
        open_writer: Opens its writer.
        count: Items that a writer's store holds.

    Raises:
        DataError: Whatever `open_writer` raises.
    """
    is_new = not path.exists()
    try:
        writer = open_writer()
    except DataError:
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    try:
        yield writer
    finally:
        is_empty = count(writer) == 0
        writer.close()
        if is_new and is_empty:
            shutil.rmtree(path)
