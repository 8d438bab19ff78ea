"""Reads recordings: tensors of the released DB1 implementation in one .npz file.

    config             JSON bytes: the released model's options
    param/<name>       its weights by released name
    <section>/<array>  inputs and outputs of one kind of input; see `db1.checkpoint.parity`

Nothing in a file is executed: pickled arrays are refused.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from db1.errors import DataError
from db1.json_shape import parse_json

_CONFIG = "config"
_PARAM = "param/"
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file.

    Args:
        path: Where it is.
        config: The released model's options.
        weights: Tensors by released name.
        sections: Sections by name, in the file's order.
    """

    path: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    sections: Mapping[str, Section]


class Section:
    """The arrays of one section, checked as they are taken.

    Args:
        title: File and section, for messages.
        arrays: Tensors by name inside the section.
    """

    def __init__(self, title: str, arrays: Mapping[str, Tensor]) -> None:
        self.title = title
        self._arrays = dict(arrays)
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    @property
    def names(self) -> list[str]:
        """Names of its arrays."""
        return sorted(self._arrays)

    @property
    def untaken(self) -> list[str]:
        """Names of the arrays that nobody asked for."""
        return sorted(set(self._arrays) - self._taken)

    def take(self, name: str, shape: Sequence[int | None] | None = None) -> Tensor:
        """One array.

        Args:
            name: Its name.
            shape: Its shape, None for a free axis; None: any.

        Raises:
            DataError: When it is missing or has another shape.
        """
        if name not in self._arrays:
            raise DataError(f"{self.title} lacks the array {name!r}, got {self.names}")
        self._taken.add(name)
        array = self._arrays[name]
        if shape is not None and not _fits(array.shape, shape):
            wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
            raise DataError(
                f"{self.title}/{name}: got shape {tuple(array.shape)}, expected {wanted}"
            )
        return array

    def take_ids(
        self, name: str, known: range, shape: Sequence[int | None] = (None, None)
    ) -> Tensor:
        """One array of whole numbers, int64.

        Args:
            name: Its name.
            known: The numbers it may hold.
            shape: As for `take`.

        Raises:
            DataError: For a missing array, another shape, fractions, or numbers out of range.
        """
        array = self.take(name, shape)
        if array.is_floating_point():
            raise DataError(f"{self.title}/{name}: got {array.dtype}, expected whole numbers")
        ids = array.to(torch.int64)
        for value in (int(ids.min()), int(ids.max())) if ids.numel() else ():
            if value not in known:
                raise DataError(
                    f"{self.title}/{name}: got {value}, expected {known.start}..{known.stop - 1}"
                )
        return ids


def read_recording(path: Path | str) -> Recording:
    """Reads a recording.

    Raises:
        DataError: For a file that is not one.
    """
    path = Path(path)
    arrays = _arrays(path)
    if _CONFIG not in arrays:
        raise DataError(f"{path}: no array 'config', got {sorted(arrays)[:10]}; not a recording")
    config = _config(path, arrays.pop(_CONFIG))
    tensors = {name: _tensor(path, name, array) for name, array in arrays.items()}
    weights = {n.removeprefix(_PARAM): t for n, t in tensors.items() if n.startswith(_PARAM)}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PARAM)}
    return Recording(path=path, config=config, weights=weights, sections=_sections(path, rest))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: one array, expected a .npz recording")
        with stored:
            return {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a .npz recording: {error}") from error


def _config(path: Path, array: Any) -> dict[str, Any]:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise DataError(f"{path}: array 'config' is not JSON bytes (uint8)")
    try:
        config = parse_json(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: array 'config' is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: array 'config' is not a JSON object, got {config!r}")
    return config


def _tensor(path: Path, name: str, array: Any) -> Tensor:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{path}: {name}: got {got}, expected an array of numbers")
    if array.dtype.itemsize > 8:
        raise DataError(f"{path}: {name}: got {array.dtype}, expected at most 64 bits a number")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape))


def _sections(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Section]:
    """`memory/segment0/ids` is `segment0/ids` of `memory`; else the last part names the array."""
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts = re.fullmatch(r"(.+?)/((?:segment\d+/)?[^/]+)", name)
        if parts is None:
            raise DataError(f"{path}: array {name!r} belongs to no section; not a recording of db1")
        grouped.setdefault(parts[1], {})[parts[2]] = tensor
    return {name: Section(f"{path}: section {name}", arrays) for name, arrays in grouped.items()}


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        expected is None or size == expected for size, expected in zip(shape, wanted, strict=True)
    )
