"""Tensors out of a TensorDict that `torch.save` wrote, without the tensordict package.

Its pickle has had three forms, all of which are read:

    tensordict 0.1          tensordict.tensordict.TensorDict, state {"_tensordict": {...}, ...}
    tensordict 0.2 to 0.5   likewise, or tensordict._td; its dict is a _StringOnlyDict
    tensordict 0.6 and on   tensordict._reductions._make_td(TensorDict, state)

`db1.pickles` runs nothing of what the pickle asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import CheckpointError, DataError

_MOST_MAPPED = 32 << 20
"""Bytes that are read before the file is mapped anew."""
_MODULES = ("tensordict", "tensordict.tensordict", "tensordict._td")


class _Stored:
    """Stands for a TensorDict, and keeps its state."""

    state: Mapping[str, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else None


def _make(kind: Any, state: Any) -> Any:
    """Stands for `tensordict._reductions._make_td`."""
    stored = _Stored()
    stored.__setstate__(state if kind is _Stored else None)
    return stored


_NAMES: dict[tuple[str, str], Any] = {
    **{(module, "TensorDict"): _Stored for module in _MODULES},
    ("tensordict.utils", "_StringOnlyDict"): dict,
    ("tensordict._reductions", "_make_td"): _make,
}


@cache
def _unpickler() -> Any:
    """Knows what a TensorDict is made of; torch is loaded when it is asked for."""
    from db1.pickles import RestrictedUnpickler

    class TensorDictUnpickler(RestrictedUnpickler):
        content = "a TensorDict of tensors"
        names = _NAMES
        keepers = (*RestrictedUnpickler.keepers, _Stored)

    return TensorDictUnpickler


class TensorFile:
    """The tensors of one file by name; those of nested TensorDicts are called `outer.inner`.

    They stay on the disk until rows of them are read. Pages that were read stay in memory while the
    file is mapped, so it is mapped anew from time to time: memory does not grow with the file.

    Args:
        path: The file.

    Raises:
        DataError: It is missing, truncated, or no TensorDict of plain tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map()

    def _map(self) -> None:
        from db1.pickles import load_pickled

        try:
            content = load_pickled(self.path, unpickler=_unpickler())
        except CheckpointError as error:
            raise DataError(str(error)) from None
        if not isinstance(content, _Stored):
            raise DataError(f"{self.path}: a {type(content).__name__}, expected a TensorDict")
        self._tensors = dict(_tensors(content, "", self.path))
        self._num_read = 0

    @property
    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, batch dimensions included."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> np.dtype:
        """dtype of the arrays that `read` returns."""
        return self.read(name, slice(0, 0)).dtype

    def read(self, name: str, rows: Any) -> np.ndarray:
        """Some rows of the first axis, (N, ...); bfloat16 becomes float32."""
        import torch

        if self._num_read > _MOST_MAPPED:
            self._map()
        part = self._tensors[name][rows]
        self._num_read += part.nbytes
        return (part.float() if part.dtype == torch.bfloat16 else part).numpy()


def _tensors(stored: _Stored, prefix: str, path: Path) -> Iterator[tuple[str, Any]]:
    import torch

    held = None if stored.state is None else stored.state.get("_tensordict")
    if not isinstance(held, Mapping):
        raise DataError(f"{path}: a TensorDict without its tensors; save it with tensordict again")
    for name, value in held.items():
        if isinstance(value, _Stored):
            yield from _tensors(value, f"{prefix}{name}.", path)
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value.detach()
