"""Calls into the C++ index builder `db1._index`: arguments checked, errors as `DataError`."""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from db1.errors import ConfigError, DataError


def call_extension(function: str, *args: object) -> Any:
    """Returns what a function of the extension gives.

    Raises:
        DataError: Bad input, or a result that does not fit the memory.
        ConfigError: The extension is not built.
    """
    try:
        return getattr(_extension(), function)(*args)
    except ValueError as error:
        raise DataError(str(error)) from None
    except MemoryError:
        raise DataError(
            f"{function}: the result does not fit the memory; ask for a part of it (start, stop)"
        ) from None


def count_of(value: object, name: str, least: int = 0) -> int:
    """Checks a whole number of at most 62 bits."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(f"{name}: got {value!r}, expected a whole number") from None
    if not least <= number <= 1 << 62:
        raise DataError(f"{name}: got {number}, expected at least {least} and at most 2**62")
    return number


def integer_array(values: ArrayLike, name: str, keep_int32: bool = False) -> np.ndarray:
    """Checks integers (N,) and returns them contiguous: int64, or int32 where they are and may be.

    Raises:
        DataError: Other numbers, or integers that may not fit int64.
    """
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:  # ragged, or beyond 64 bits
        raise DataError(f"{name}: {error}, expected one axis of integers") from None
    if array.size and (array.dtype.kind not in "iu" or array.dtype == np.uint64):
        raise DataError(f"{name}: got {array.dtype}, expected integers of at most 64 bits, signed")
    kept = keep_int32 and array.dtype == np.int32
    return np.ascontiguousarray(array, dtype=np.int32 if kept else np.int64)


def real_array(values: ArrayLike, name: str) -> np.ndarray:
    """Checks real numbers (N,) and returns them contiguous, as float64.

    Raises:
        DataError: Anything else.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name}: {error}, expected one axis of numbers") from None
    if array.size and array.dtype.kind not in "iuf":
        raise DataError(f"{name}: got {array.dtype}, expected real numbers")
    return np.ascontiguousarray(array, dtype=np.float64)


def _extension() -> ModuleType:
    try:
        from db1 import _index
    except ImportError as error:
        raise ConfigError(
            f"the C++ index builder db1._index cannot be loaded ({error}); build it with: "
            "pip install --no-build-isolation --no-deps -e ."
        ) from None
    return _index
