"""Finds what makes a host wait for its device, without a device.

On the meta device tensors have shapes and no values, so that reading one raises; the mode names the
operation first, and every copy to another device.

    with NoSynchronisation():
        model(batch)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")
"""Operations whose result the host has to see."""


class NoSynchronisation(TorchDispatchMode):
    """Raises AssertionError at an operation for which the host would wait for the device."""

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        options = options or {}
        name = function.overloadpacket.__name__
        if any(name.startswith(word) for word in WAITING):
            raise AssertionError(f"the host waits for {name}")
        result = function(*arguments, **options)
        if name in ("_to_copy", "copy_") and _devices(arguments) == {"meta"}:
            assert _devices((result,)) == {"meta"}, f"{name} brings a tensor to the host"
        if name in ("index", "index_put", "index_put_"):
            places = [place for place in arguments[1] if place is not None]
            assert all(place.dtype != torch.bool for place in places), f"{name} by a mask waits"
        return result


def _devices(values: Sequence[Any]) -> set[str]:
    return {value.device.type for value in values if isinstance(value, Tensor)}


def on_meta(value: Any) -> Any:
    """A batch, or any nesting of dataclasses and tuples, with its tensors on the meta device."""
    if isinstance(value, Tensor):
        return value.to(META)
    if is_dataclass(value):
        return replace(value, **{f.name: on_meta(getattr(value, f.name)) for f in fields(value)})
    return tuple(map(on_meta, value)) if isinstance(value, tuple) else value
