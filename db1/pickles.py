"""Reads tensors out of a torch file without running what its pickle may ask for.

A pickle names the functions and classes that rebuild it. Here a name is looked up in a short list:
what rebuilds tensors and plain containers is used, what a DeepSpeed checkpoint holds beside its
weights (arguments, schedules, loss scalers) becomes an inert object that keeps nothing, and any
other name is refused before anything of it is imported.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch

from db1.errors import CheckpointError

_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, complex, bytearray, range, slice)
    },
}
_TORCH_DTYPES = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}
_INERT_MODULES = (
    "_codecs",  # bytes of NumPy arrays
    "argparse",
    "deepspeed",
    "enum",
    "megatron",
    "numpy",
    "pathlib",
    "src",  # the public DB1 repository's own package
)
"""Packages whose objects and functions are stood in for, never imported."""


_DAMAGE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""Exceptions that torch and pickle raise on a damaged file."""
_INERT = {("collections", "Counter"), ("collections", "defaultdict"), ("datetime", "datetime")}


class Inert:
    """Stands for an object that is not needed; takes any construction and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Ignores an element."""

    def extend(self, values: Any) -> None:
        """Ignores elements."""


def load_pickled(
    path: Path, *, unpickler: type[pickle._Unpickler] | None = None, mmap: bool = True
) -> Any:
    """Reads a torch file.

    Args:
        path: A file that `torch.save` wrote in its zip format.
        unpickler: What looks names up; None: the one for released checkpoints.
        mmap: Tensors stay on the disk until they are touched.

    Raises:
        CheckpointError: For a file that is missing, truncated, no such file, or whose pickle
            names something outside the list.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if not zipfile.is_zipfile(path) or not _begins_as_zip(path):
        raise CheckpointError(
            f"{path}: truncated, or not a file in torch.save's zip format (torch 1.6 or newer)"
        )
    try:
        if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
            raise CheckpointError("a TorchScript program; refused, nothing was run")
        module = _module(unpickler or ReleasedUnpickler)
        return torch.load(
            path, map_location="cpu", mmap=mmap, weights_only=False, pickle_module=module
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason}); get the file again") from error


def _begins_as_zip(path: Path) -> bool:
    """Tells whether torch would take the file for a zip archive, by its first bytes."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


class RestrictedUnpickler(pickle._Unpickler):  # in Python: what BUILD sets can be looked at
    """Knows what rebuilds tensors and plain containers; other names of `stands_in`.

    Attributes:
        content: What the file holds, for messages.
        names: Further names, (module, name), and what stands for them.
        keepers: Classes whose objects take the state that the pickle gives them.
    """

    content: ClassVar[str] = "a checkpoint"
    names: ClassVar[Mapping[tuple[str, str], Any]] = {}
    keepers: ClassVar[tuple[type, ...]] = (OrderedDict, torch.Tensor, Inert)
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name in the pickle stands for; CheckpointError outside the list."""
        if (module, name) in self.names:
            return self.names[module, name]
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _TORCH_DTYPES:
            return _TORCH_DTYPES[name]
        if self.stands_in(module, name):
            return Inert
        raise CheckpointError(
            f"its pickle asks for {module}.{name}, which {self.content} has no use for; refused, "
            "nothing was run"
        )

    def stands_in(self, module: str, name: str) -> bool:
        """Tells whether a name is known and not needed."""
        return False

    def load_build(self) -> None:
        """Sets the state of an object; never that of a class or function, which all share."""
        if not isinstance(self.stack[-2], self.keepers):  # type: ignore[attr-defined]
            kind = type(self.stack[-2]).__name__  # type: ignore[attr-defined]
            raise CheckpointError(
                f"its pickle sets the state of a {kind}; refused, nothing was run"
            )
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


class ReleasedUnpickler(RestrictedUnpickler):
    """For checkpoints of other programs, of which weights are read only."""

    def stands_in(self, module: str, name: str) -> bool:
        return module.split(".")[0] in _INERT_MODULES or (module, name) in _INERT


def _module(unpickler: type[pickle._Unpickler]) -> ModuleType:
    """Module that torch.load takes in place of pickle."""
    module = ModuleType("db1_restricted_pickle")
    module.Unpickler = unpickler
    module.load = lambda file, **options: unpickler(file, **options).load()
    return module
