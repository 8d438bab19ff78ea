"""Files that make a folder as soon as whoever reads them executes what they hold.

payloads(target)        (kind, bytes): a pickle, a torch file, a pickled NumPy array, a YAML tag
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def torch_file(target: Path, **content: Any) -> bytes:
    """A file of torch.save with `content` that makes `target` when it is unpickled."""
    stream = io.BytesIO()
    torch.save({**content, "other": Calls(os.mkdir, str(target))}, stream)
    return stream.getvalue()


def payloads(target: Path) -> Iterator[tuple[str, bytes]]:
    """Kinds of files that execute, each making the folder `target`."""
    yield "pickle", pickle.dumps(Calls(os.mkdir, str(target)), protocol=2)
    yield "torch", torch_file(target)
    array = io.BytesIO()
    np.save(array, np.array([Calls(os.mkdir, str(target))], dtype=object), allow_pickle=True)
    yield "numpy", array.getvalue()
    yield "yaml", f"name: !!python/object/apply:os.mkdir [{str(target)!r}]\n".encode()
