"""Episodes of numbers as RLDS (TFRecord files with a features.json) and as TD-MPC2's TensorDicts.

Neither TensorFlow nor tensordict is needed: the messages of `db1/formats/tfrecord.py` are written
field by field, and a TensorDict is pickled under its own name, in the form of tensordict 0.1.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from db1.benchmarks.foreign.episodes import Raw
from db1.formats.tfrecord import masked_crc

_SHARD, _CHUNK = 100, 10_000
"""Episodes of a TFRecord file, and at most of a TensorDict, whose files are large."""
MW_REACH = 65
"""TD-MPC2's number of mw-reach."""


def write_rlds(folder: Path, episodes: Sequence[Raw]) -> str:
    """Writes a split `train` whose last steps hold the final observation."""
    folder.mkdir(parents=True)
    shards = [episodes[n : n + _SHARD] for n in range(0, len(episodes), _SHARD)]
    for number, shard in enumerate(shards):
        name = f"line-train.tfrecord-{number:05d}-of-{len(shards):05d}"
        with open(folder / name, "wb") as file:
            for e in shard:
                file.write(_record(_example(_rlds_lists(e))))
    step = {
        "observation": {"featuresDict": {"features": {"state": _tensor(episodes[0].observations)}}},
        "action": _tensor(episodes[0].actions),
        "reward": _tensor(episodes[0].rewards),
        "is_terminal": {"tensor": {"dtype": "bool", "encoding": "none", "shape": {}}},
    }
    steps = {"sequence": {"feature": {"featuresDict": {"features": step}}, "length": "-1"}}
    content = {"featuresDict": {"features": {"steps": steps}}}
    (folder / "features.json").write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


def _tensor(values: np.ndarray) -> dict[str, Any]:
    """The entry of features.json for the rows of an array (T, ...)."""
    dimensions = [str(n) for n in values.shape[1:]]
    shape = {"dimensions": dimensions} if dimensions else {}
    return {"tensor": {"dtype": str(values.dtype), "encoding": "none", "shape": shape}}


def _rlds_lists(e: Raw) -> dict[str, np.ndarray]:
    """Flat lists of T + 1 steps; action and reward of the last one say nothing."""
    ends = np.zeros(len(e) + 1, np.int64)
    ends[-1] = e.terminated
    return {
        "steps/observation/state": e.observations.reshape(-1),
        "steps/action": np.append(e.actions, np.zeros_like(e.actions[:1])),
        "steps/reward": np.append(e.rewards, np.float32(0)),
        "steps/is_terminal": ends,
    }


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    crcs = [struct.pack("<I", masked_crc(part)) for part in (length, data)]
    return length + crcs[0] + data + crcs[1]


def _example(lists: Mapping[str, np.ndarray]) -> bytes:
    """A `tf.train.Example` of float32 lists and of lists of small integers, numbers packed."""
    entries = b""
    for name, values in lists.items():
        is_float = values.dtype == np.float32
        packed = values.astype("<f4" if is_float else np.uint8).tobytes()
        feature = _field(2 if is_float else 3, _field(1, packed))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def write_tdmpc2(folder: Path, episodes: Sequence[Raw]) -> str:
    """Writes `chunk_0.pt`, ...: episodes of mw-reach, padded by two zeros, of one length a file."""
    import torch

    folder.mkdir(parents=True)
    for number, chunk in enumerate(_chunks(episodes)):
        shape = (len(chunk), len(chunk[0]) + 1)
        before = np.full((1, *chunk[0].actions.shape[1:]), np.nan, np.float32)
        held = {
            "obs": np.stack([_padded(e.observations) for e in chunk]),
            "action": np.stack([_padded(np.concatenate([before, e.actions])) for e in chunk]),
            "reward": np.stack([np.append(np.float32(np.nan), e.rewards) for e in chunk]),
            "task": np.full(shape, MW_REACH, np.int64),
        }
        content = _TensorDict({key: torch.from_numpy(values) for key, values in held.items()})
        pickles = SimpleNamespace(Pickler=_Pickler, __name__="pickle")
        torch.save(content, folder / f"chunk_{number}.pt", pickle_module=pickles)
    return str(folder)


def _chunks(episodes: Sequence[Raw]) -> Iterator[list[Raw]]:
    for _, same in groupby(episodes, key=len):
        found = list(same)
        yield from (found[n : n + _CHUNK] for n in range(0, len(found), _CHUNK))


def _padded(rows: np.ndarray) -> np.ndarray:
    """(N, size) -> (N, size + 2)."""
    return np.pad(rows, ((0, 0), (0, 2)))


class _TensorDict:
    """Tensors under the name that tensordict gives them."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensordict = dict(tensors)


class _Pickler(pickle._Pickler):
    """Names `_TensorDict` as the package's own class, which need not be installed."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Writes the name of a class or function."""
        if obj is not _TensorDict:
            super().save_global(obj, name)
            return
        self.write(pickle.GLOBAL + b"tensordict.tensordict\nTensorDict\n")
        self.memoize(obj)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global}
