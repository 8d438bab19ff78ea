"""TFRecord files and the `tf.train.Example` messages in them, without TensorFlow.

A file is records one after the other:

    uint64 length | uint32 masked crc32c of it | data | uint32 masked crc32c of the data

An Example is a map from names to lists of bytes, float32 or int64 (protobuf wire format):

    Example {1: Features}   Features {1: {1: name, 2: Feature}}   (repeated)
    Feature {1: BytesList | 2: FloatList | 3: Int64List}, each {1: value}, numbers packed or not

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord ; tensorflow/core/example/*.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.formats.fields import BadEpisode

_HEADER = struct.Struct("<QI")
_MASK = 0xA282EAD8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Values = list[bytes] | np.ndarray
"""A feature's list: bytes, float32 (N,) or int64 (N,)."""


def masked_crc(data: bytes) -> int:
    """The checksum of TFRecord: crc32c, turned right by 15 bits, plus a constant.

    Raises:
        MissingExtra: google-crc32c is not installed.
    """
    try:
        import google_crc32c
    except ImportError:
        raise MissingExtra("google-crc32c", "import", "reading TFRecord files") from None
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def record_offsets(path: Path) -> list[int]:
    """Byte offset of every record; reads the lengths only.

    Raises:
        DataError: No TFRecord file, or one that ends inside a record.
    """
    offsets = []
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            while (offset := file.tell()) < size:
                length = _length(file, path)
                file.seek(length + 4, os.SEEK_CUR)
                if file.tell() > size:
                    raise DataError(f"{path}: ends inside record {len(offsets)}; it was cut short")
                offsets.append(offset)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """The data of the record at an offset.

    Raises:
        BadEpisode: Its checksum is wrong, or the file ends there.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            length = _length(file, path)
            data = file.read(length)
            expected = file.read(4)
    except OSError as error:
        raise BadEpisode(f"{path}: cannot be read ({error})") from None
    if len(data) < length or len(expected) < 4:
        raise BadEpisode(f"{path}: ends inside the record at byte {offset}; it was cut short")
    if masked_crc(data) != int.from_bytes(expected, "little"):
        raise BadEpisode(f"{path}: wrong checksum of the record at byte {offset}; it is corrupt")
    return data


def _length(file: Any, path: Path) -> int:
    offset = file.tell()
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise DataError(f"{path}: ends inside a record's length at byte {offset}; it was cut short")
    length, crc = _HEADER.unpack(header)
    if masked_crc(header[:8]) != crc:
        raise DataError(
            f"{path}: wrong checksum of a record's length at byte {offset}; not a TFRecord file, "
            "or a corrupt one"
        )
    return length


def parse_example(data: bytes, where: str) -> dict[str, Values]:
    """The features of a `tf.train.Example`.

    Args:
        data: Its serialised bytes.
        where: Names it in errors.

    Raises:
        BadEpisode: No such message.
    """
    found: dict[str, Values] = {}
    try:
        for number, features in _fields(memoryview(data)):
            if number != 1:
                continue
            for _, entry in _fields(features):
                name, values = _entry(entry)
                found[name] = values
    except (IndexError, ValueError, TypeError, struct.error) as error:
        raise BadEpisode(f"{where}: not a tf.train.Example ({error})") from None
    return found


def _entry(entry: memoryview) -> tuple[str, Values]:
    """One pair of the map of features."""
    name, values = "", np.zeros(0, np.int64)
    for key, content in _fields(entry):
        if key == 1:
            name = bytes(content).decode("utf-8")
        elif key == 2:
            values = _feature(content)
    return name, values


def _feature(content: memoryview) -> Values:
    for kind, values in _fields(content):
        if kind == 1:
            return [bytes(value) for _, value in _fields(values)]
        parts = [_numbers(kind, value) for _, value in _fields(values)]
        empty = np.zeros(0, np.float32 if kind == 2 else np.int64)
        return np.concatenate(parts) if parts else empty
    return np.zeros(0, np.int64)


def _numbers(kind: int, value: memoryview | int) -> np.ndarray:
    """One packed list, or one number of an unpacked one."""
    if kind == 2:
        return np.frombuffer(value, "<f4")
    if isinstance(value, int):
        return np.array([value], np.uint64).astype(np.int64)
    return _varints(np.frombuffer(value, np.uint8))


def _varints(content: np.ndarray) -> np.ndarray:
    """uint8 (N,) of varints one after the other -> int64."""
    ends = np.flatnonzero(content < 0x80)
    if len(content) and (not len(ends) or ends[-1] != len(content) - 1):
        raise ValueError("a number is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    lengths = ends - starts + 1
    values = np.zeros(len(ends), np.uint64)
    for k in range(int(lengths.max(initial=0))):
        has = lengths > k
        digits = (content[starts[has] + k] & 0x7F).astype(np.uint64)
        values[has] |= digits << np.uint64(7 * k)
    return values.astype(np.int64)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields: bytes as views, varints as int."""
    position, size = 0, len(message)
    while position < size:
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            end = position + (8 if kind == _FIXED64 else 4)
            value, position = message[position:end], end
        elif kind == _BYTES:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"wire type {kind}")
        if position > size:
            raise ValueError("it is cut short")
        yield tag >> 3, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")
