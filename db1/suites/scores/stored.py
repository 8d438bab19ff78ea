"""`references.json` beside the demonstrations of a task: written and read here alone.

    {"task": id, "environment": {...},
     "random": {"mean": m, "std": s, "episodes": n, "seeds": [first, last], ...},
     "expert": the same}

`db1.collection.references` measures what is in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.json_shape import parse_json_file, seal, unseal

REFERENCES_FILE = "references.json"


@dataclass(frozen=True, kw_only=True)
class StoredReferences:
    """Content of a file of references.

    Args:
        random: Mean return of uniform random actions.
        expert: Mean return of the task's expert.
        content: The whole file.
        folder: Where it lies.
    """

    random: float
    expert: float
    content: Mapping[str, Any]
    folder: Path

    @property
    def last_seed(self) -> int:
        """The last seed that the expert played.

        Raises:
            DataError: When the file does not say.
        """
        try:
            return int(self.content["expert"]["seeds"][1])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise broken(self.folder, error) from error


def read_stored(folder: Path) -> StoredReferences | None:
    """Reads the references beside a store; None when there is no such file.

    Raises:
        DataError: When the file is broken.
    """
    path = folder / REFERENCES_FILE
    try:
        content, is_whole = unseal(parse_json_file(path))
        if not is_whole:
            raise ValueError("changed since they were written, or by hand")
        return StoredReferences(
            random=float(content["random"]["mean"]),
            expert=float(content["expert"]["mean"]),
            content=content,
            folder=folder,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken(folder, error) from error


def broken(folder: Path, error: Exception) -> DataError:
    """The error of references that lack something."""
    path = folder / REFERENCES_FILE
    return DataError(f"{path}: broken references ({error!r}); delete it and collect them again")


def write_stored(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes `references.json`, replacing an older one only when the new one is complete.

    Raises:
        DataError: When it cannot be written.
    """
    path = folder / REFERENCES_FILE
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(seal(content), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot write ({error}); the episodes beside it are complete, "
            f"free space and run the same command again"
        ) from error
