"""Optimizer and random states of a run: torch files that people share, read without running them.

    load_state(path)        the content of one file, tensors in memory
    check_states(folder)    that all files below a folder are such files; nothing of them is kept

DeepSpeed reads its files below `deepspeed/` with unrestricted pickle. It is handed a folder only
after `check_states`: every name that a pickle there asks for stands in a list of exact names, which
DeepSpeed itself writes and which do nothing but hold values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._tensor import _rebuild_from_type_v2

from db1.errors import CheckpointError
from db1.pickles import RestrictedUnpickler, load_pickled

_HOLDERS = {
    ("deepspeed.runtime.fp16.loss_scaler", "LossScaler"),
    ("deepspeed.runtime.fp16.loss_scaler", "DynamicLossScaler"),
    ("deepspeed.runtime.zero.config", "ZeroStageEnum"),
    ("deepspeed.utils.tensor_fragment", "fragment_address"),
}
"""Classes that DeepSpeed 0.19 pickles beside tensors: settings and places without behaviour."""

_SUBCLASSED = {
    ("torch", "Tensor"): torch.Tensor,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type_v2,
}
"""Tensors with attributes, as at ZeRO stage 3."""


class StateUnpickler(RestrictedUnpickler):
    """Knows the names in optimizer and random states, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        return _SUBCLASSED.get((module, name)) or super().find_class(module, name)

    def stands_in(self, module: str, name: str) -> bool:
        return (module, name) in _HOLDERS


def load_state(path: Path) -> Any:
    """Reads a file of states.

    Args:
        path: `random-rank0.pt`, `torch.pt`, or a file of DeepSpeed's.

    Returns:
        Its content; what only DeepSpeed needs is an inert object.

    Raises:
        CheckpointError: It is missing, damaged, or asks for something else than states.
    """
    content = load_pickled(path, unpickler=StateUnpickler, mmap=False)
    _check_content(content, path)
    return content


@contextmanager
def of_this_training(folder: Path) -> Iterator[None]:
    """Turns what states of another shape raise inside the block into one error.

    Raises:
        CheckpointError: Naming the folder.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{folder}: its states are not those of this training ({type(error).__name__}: "
            f"{error}); delete the folder to go on from the checkpoint before it"
        ) from error


def check_states(folder: Path) -> None:
    """Checks every file below a folder before a reader with unrestricted pickle may see it.

    Args:
        folder: `<checkpoint>/deepspeed`.

    Raises:
        CheckpointError: A file asks for something else than states, is no file of torch, or names
            a parameter that would become a path out of the folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        _check_content(load_pickled(path, unpickler=StateUnpickler), path)


def _check_content(content: Any, path: Path) -> None:
    """Refuses numbers that are not finite, and names of which DeepSpeed would make paths."""
    waiting = [content]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if isinstance(part, torch.Tensor):
            _check_tensor(part, path)
        if not isinstance(part, Mapping | list | tuple) or id(part) in seen:
            continue
        seen.add(id(part))
        if not isinstance(part, Mapping):
            waiting += part
            continue
        for key in part:
            if isinstance(key, str) and ("/" in key or "\0" in key or key in ("", ".", "..")):
                raise CheckpointError(
                    f"{path}: {key[:80]!r} is not the name of a parameter; refused"
                )
        waiting += part.values()


def _check_tensor(tensor: torch.Tensor, path: Path) -> None:
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: a tensor of {tensor.numel():,} numbers has fewer; refused")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"{path}: a state has numbers that are not finite; delete the folder "
            f"{path.parent.name} to go on from the checkpoint before it"
        )
