"""`features.json` of TFDS: which features an episode has, and how their lists become arrays.

The file mirrors the nesting of the data; a feature's list in the Example has the path as its name:

    {"featuresDict": {"features": {"steps": {"sequence": {"feature": {...}}}}}}
    steps/observation/state     float list of T * 3, for a tensor of shape (3,)
    steps/observation/image     T encoded PNG or JPEG files
    steps/language_instruction  T texts
    episode_metadata/file_path  one text

Source: tensorflow_datasets/core/proto/feature.proto and core/example_serializer.py (4.9).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.formats.fields import BadEpisode
from db1.formats.picture_bytes import decode_all
from db1.formats.tfrecord import Values
from db1.json_shape import parse_json_file

FILE = "features.json"
_MAX_DEPTH = 30


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One leaf of the features.

    Args:
        path: Its name in the Example.
        kind: `tensor`, `image` or `text`.
        dtype: Of a tensor.
        shape: Of one value of a tensor.
        encoding: `none`, `bytes` or `zlib`: how each value of a tensor is stored.
        num_values: Number of classes of a class label.
    """

    path: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    encoding: str = "none"
    num_values: int | None = None

    def values(self, found: Mapping[str, Values], where: str) -> np.ndarray:
        """The feature's values in one Example of T steps, (T, *shape).

        Raises:
            BadEpisode: It is missing, of another kind or length, or corrupt.
        """
        where = f"{where}: {self.path}"
        if self.path not in found:
            raise BadEpisode(f"{where} is missing")
        raw = found[self.path]
        if self.kind == "text":
            texts = [text.decode("utf-8", "replace") for text in _bytes(raw, where)]
            return np.array(texts, dtype=object)
        if self.kind == "image":
            return decode_all(_bytes(raw, where), where)
        if self.encoding != "none":
            return self._encoded(_bytes(raw, where), where)
        if isinstance(raw, list):
            raise BadEpisode(f"{where} has bytes, expected {self.dtype}")
        size = int(np.prod(self.shape, dtype=np.int64))
        if size == 0 or len(raw) % size:
            raise BadEpisode(f"{where} has {len(raw)} numbers, expected a multiple of {self.shape}")
        return raw.astype(self.dtype).reshape(-1, *self.shape)

    def _encoded(self, raw: list[bytes], where: str) -> np.ndarray:
        try:
            plain = [zlib.decompress(one) if self.encoding == "zlib" else one for one in raw]
            return np.stack([np.frombuffer(one, self.dtype).reshape(self.shape) for one in plain])
        except (zlib.error, ValueError) as error:
            raise BadEpisode(f"{where} is corrupt ({error})") from None


def read_features(path: Path) -> tuple[dict[str, Feature], dict[str, Feature], tuple[str, ...]]:
    """Features of a step and of the episode, by path, and the paths that are ignored.

    Raises:
        DataError: Unreadable, or without `steps`.
    """
    try:
        top = parse_json_file(path)["featuresDict"]["features"]
        steps = top["steps"]["sequence"]["feature"]
        unknown: list[str] = []
        of_step = {f.path: f for f in _leaves(steps, "steps", unknown)}
        of_episode: dict[str, Feature] = {}
        for name in top:
            if name != "steps":
                of_episode |= {f.path: f for f in _leaves(top[name], name, unknown)}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: no features of RLDS episodes (lacks {error}); expected `steps`, a data set "
            "of steps"
        ) from None
    return of_step, of_episode, tuple(unknown)


def _leaves(
    node: Mapping[str, Any], path: str, unknown: list[str], depth: int = 0
) -> Iterator[Feature]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if "featuresDict" in node:
        for name, part in node["featuresDict"].get("features", {}).items():
            yield from _leaves(part, f"{path}/{name}", unknown, depth + 1)
        return
    feature = _leaf(node, path)
    if feature is None:
        unknown.append(path)
    else:
        yield feature


def _leaf(node: Mapping[str, Any], path: str) -> Feature | None:
    """A leaf; None for a kind that db1 has no field for, such as one of open shape."""
    if "tensor" in node:
        return _tensor(node["tensor"], path)
    if "image" in node:
        is_plain = node["image"].get("dtype", "uint8") == "uint8"
        return Feature(path=path, kind="image") if is_plain else None
    if "text" in node:
        return Feature(path=path, kind="text")
    if "classLabel" in node:
        count = int(node["classLabel"].get("numClasses", 0)) or None
        return Feature(path=path, kind="tensor", dtype="int64", num_values=count)
    return None


def _tensor(node: Mapping[str, Any], path: str) -> Feature | None:
    shape = tuple(int(n) for n in node.get("shape", {}).get("dimensions", ()))
    dtype = str(node["dtype"])
    if dtype in ("string", "object", "bytes"):
        return None if shape else Feature(path=path, kind="text")
    np.dtype(dtype)
    if any(n < 0 for n in shape):
        return None
    encoding = str(node.get("encoding", "none")).lower()
    return Feature(path=path, kind="tensor", dtype=dtype, shape=shape, encoding=encoding)


def _bytes(raw: Values, where: str) -> list[bytes]:
    if isinstance(raw, list):
        return raw
    if len(raw):
        raise BadEpisode(f"{where} has numbers, expected bytes")
    return []
