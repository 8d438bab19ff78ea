"""Reads NumPy's pickled objects: plain containers and arrays of numbers, and nothing else.

`numpy.load(..., allow_pickle=True)` runs whatever a file asks for. Here a name in the pickle is
looked up in a short list of what rebuilds arrays; any other is refused before it is imported.
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from db1.formats.fields import BadEpisode

_CORE = ("numpy.core", "numpy._core")
_ARRAY_MAKERS = {"_reconstruct", "scalar", "_frombuffer"}


def load_plain(path: Path) -> Any:
    """The object that `numpy.save(path, object)` pickled.

    Raises:
        BadEpisode: No such file, truncated, or its pickle asks for something else.
    """
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                reader = np.lib.format.read_array_header_2_0
            _, _, dtype = reader(stream)
            if not dtype.hasobject:
                raise BadEpisode(f"{path}: an array of {dtype}, expected a pickled dict of arrays")
            found = _PlainUnpickler(stream).load()
    except BadEpisode:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise BadEpisode(f"{path}: cannot be read, or truncated ({error})") from None
    return (
        found.reshape(-1)[0] if isinstance(found, np.ndarray) and found.dtype == object else found
    )


class _PlainUnpickler(pickle._Unpickler):  # in Python: it checks what BUILD sets
    def find_class(self, module: str, name: str) -> Any:
        """Class of a name; raises BadEpisode for names outside the list."""
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module.startswith(_CORE) and name in _ARRAY_MAKERS:
            core = np._core if hasattr(np, "_core") else np.core
            return getattr(core.numeric if name == "_frombuffer" else core.multiarray, name)
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise BadEpisode(f"its pickle asks for {module}.{name}; refused, nothing was run")
