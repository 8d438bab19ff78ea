"""The columns of an episode store: raw arrays with one row a step, and the string table of text.

See `episode_layout.py` for the files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from db1.errors import DataError
from db1.tokens.spec import Episode, FieldSpec, StepSpec

STRINGS_FILE = "strings.jsonl"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column file: `row_shape` values of `dtype` a step."""

    path: Path
    dtype: np.dtype
    row_shape: tuple[int, ...]
    is_text: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one step."""
        return self.dtype.itemsize * math.prod(self.row_shape)

    def num_steps(self) -> int:
        """Number of complete rows in the file (0 when there is no file)."""
        if self.row_bytes == 0:
            return np.iinfo(np.int64).max
        return self.path.stat().st_size // self.row_bytes if self.path.exists() else 0

    def map(self) -> np.ndarray:
        """Maps the complete rows read-only, shape (rows, *row_shape)."""
        num_rows = self.num_steps() if self.row_bytes else 0
        if num_rows == 0:
            return np.empty((0, *self.row_shape), dtype=self.dtype)
        shape = (num_rows, *self.row_shape)
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=shape).view(np.ndarray)


def columns_of(path: Path, spec: StepSpec) -> dict[str, Column]:
    """Returns the columns of a store in checksum order; keys `observations.<key>`, ... ."""
    field_specs = {f"observations.{key}": value for key, value in spec.observation.items()}
    field_specs["actions"] = spec.action
    columns = {
        name: Column(
            path=path / f"{quote(name, safe=' ')}.bin",
            dtype=column_dtype(value),
            row_shape=value.shape,
            is_text=value.kind == "text",
        )
        for name, value in field_specs.items()
    }
    rewards = Column(path=path / "rewards.bin", dtype=np.dtype("<f4"), row_shape=())
    return columns | {"rewards": rewards}


def column_dtype(spec: FieldSpec) -> np.dtype:
    """Stored dtype of a field: little-endian; uint32 line numbers for text."""
    return np.dtype("<u4") if spec.kind == "text" else spec.dtype.newbyteorder("<")


def checked_arrays(episode: Episode, spec: StepSpec, where: str) -> dict[str, np.ndarray]:
    """Returns the episode's columns in stored dtypes (text as object), checked against the spec."""
    observations = {
        key: _cast(value, spec.observation[key], f"{where}: observation {key!r}")
        if key in spec.observation
        else np.asarray(value)
        for key, value in episode.observations.items()
    }
    checked = Episode(
        observations=observations,
        actions=_cast(episode.actions, spec.action, f"{where}: action"),
        rewards=_cast(episode.rewards, FieldSpec(kind="continuous"), f"{where}: rewards"),
    )
    checked.check(spec, where)
    arrays = {f"observations.{key}": observations[key] for key in spec.observation}
    return arrays | {"actions": checked.actions, "rewards": checked.rewards}


def _cast(values: Any, spec: FieldSpec, where: str) -> np.ndarray:
    """Casts to the stored dtype where that keeps the values' meaning; raises DataError else."""
    try:
        array = np.asarray(values, dtype=object if spec.kind == "text" else None)
    except ValueError as error:
        raise DataError(f"{where}: no array of {spec.dtype} ({error})") from None
    if spec.kind == "text":
        for value in array.flat:
            spec.check(value, where)
            if not _is_unicode(value):
                raise DataError(f"{where}: {value!r} is no valid Unicode text (a lone surrogate)")
        return array
    kinds = {"image": "u", "discrete": "iub", "continuous": "fiub"}[spec.kind]
    if array.dtype.kind not in kinds or (spec.kind == "image" and array.dtype != np.uint8):
        raise DataError(f"{where}: got dtype {array.dtype}, expected {spec.dtype}")
    spec.check_values(array, where)
    with np.errstate(over="ignore"):  # a float64 beyond float32 turns infinite: check finds it
        return array.astype(spec.dtype)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def column_crc(arrays: Mapping[str, np.ndarray]) -> int:
    """CRC-32 over an episode's columns; text counts as its JSON lines, not as line numbers."""
    crc = 0
    for array in arrays.values():
        is_text = array.dtype == object
        content = json_lines(array.flat) if is_text else little_endian(array).reshape(-1)
        crc = zlib.crc32(content if is_text else content.view(np.uint8), crc)
    return crc


def little_endian(array: np.ndarray) -> np.ndarray:
    """Contiguous copy (or the array itself) in little-endian byte order."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def json_lines(texts: Iterable[str]) -> bytes:
    """Lines of the string table, ASCII."""
    return "".join(json.dumps(text) + "\n" for text in texts).encode("ascii")


def read_strings(path: Path) -> tuple[list[str], int]:
    """Reads the string table and returns it with the bytes of its complete lines."""
    file = path / STRINGS_FILE
    content = file.read_bytes() if file.exists() else b""
    num_bytes = content.rfind(b"\n") + 1
    strings = []
    for number, line in enumerate(content[:num_bytes].split(b"\n")[:-1]):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, str):
            raise DataError(
                f"{file} line {number + 1}: got {line[:40]!r}, expected a JSON string; "
                "the store is damaged, make it again"
            )
        strings.append(value)
    return strings, num_bytes
