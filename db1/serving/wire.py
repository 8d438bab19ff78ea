"""Observations and actions as JSON or msgpack.

    JSON      numbers and lists of them, or {"dtype", "shape", "base64"}: exact, and short
    msgpack   the same, or {"dtype", "shape", "data"} with the bytes as they are

Arrays are little-endian and row-major.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra

JSON, MSGPACK = "application/json", "application/msgpack"
_DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def dump(content: Any, media_type: str) -> bytes:
    """The bytes of an answer; arrays as `{"dtype", "shape", ...}`."""
    if media_type == MSGPACK:
        return _msgpack().packb(_packed(content, is_binary=True), use_bin_type=True)
    return json.dumps(_packed(content, is_binary=False)).encode("utf-8")


def parse(body: bytes, media_type: str) -> dict[str, Any]:
    """A request's content, with its arrays.

    Raises:
        DataError: When it is no mapping in this format, or an array is broken.
    """
    if not body:
        return {}
    try:
        if media_type == MSGPACK:
            content = _msgpack().unpackb(body, raw=False, strict_map_key=True)
        else:
            content = json.loads(body)
    except MissingExtra:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"the request is no {media_type}: {str(error)[:120]}") from None
    if not isinstance(content, Mapping):
        raise DataError(f"the request is a {type(content).__name__}, expected a mapping")
    return {str(key): unpacked(value) for key, value in content.items()}


def unpacked(value: Any) -> Any:
    """A value with its arrays; mappings that are none are looked into."""
    if not isinstance(value, Mapping):
        return value
    if not {"dtype", "shape"} <= set(value):
        return {str(key): unpacked(part) for key, part in value.items()}
    return _array(value)


def _array(value: Mapping[str, Any]) -> np.ndarray:
    dtype, shape = value["dtype"], value["shape"]
    is_shape = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if dtype not in _DTYPES or not is_shape:
        raise DataError(f"an array of dtype {dtype!r} and shape {shape!r}, expected {_DTYPES}")
    try:
        data = (
            value["data"] if "data" in value else base64.b64decode(value["base64"], validate=True)
        )
    except (KeyError, TypeError, binascii.Error) as error:
        raise DataError(f"an array without its bytes ({error!r})") from None
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        got = len(data) if isinstance(data, bytes | str | list) else type(data).__name__
        raise DataError(f"an array of shape {shape} with {got} bytes, expected {expected}")
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _packed(value: Any, *, is_binary: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _packed(part, is_binary=is_binary) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(part, is_binary=is_binary) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
        bytes_ = {"data": data} if is_binary else {"base64": base64.b64encode(data).decode("ascii")}
        return {"dtype": value.dtype.name, "shape": list(value.shape), **bytes_}
    return value


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise MissingExtra("msgpack", "serve", f"requests of {MSGPACK}") from None
    return msgpack
