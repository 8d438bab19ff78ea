"""The same few episodes written in every foreign format, where its package is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from db1.benchmarks.foreign.control import (
    write_d4rl,
    write_db1_cache,
    write_jat,
    write_minari,
    write_minari_arrow,
)
from db1.benchmarks.foreign.episodes import Raw, Write, numbers

__all__ = ["FORMATS", "Raw", "Write", "numbers", "write_d4rl", "write_db1_cache", "write_minari"]


def _where_installed(package: str, write: Write) -> Write:
    def written(folder: Path, episodes: list[Raw]) -> str:
        pytest.importorskip(package, reason='pip install "db1[import]" runs it')
        return write(folder, episodes)

    return written


FORMATS: dict[str, tuple[str, Write]] = {
    "d4rl": ("d4rl", _where_installed("h5py", write_d4rl)),
    "minari-hdf5": ("minari", _where_installed("minari", write_minari)),
    "minari-arrow": ("minari", _where_installed("minari", write_minari_arrow)),
    "jat": ("jat", _where_installed("datasets", write_jat)),
    "db1-cache": ("db1-cache", write_db1_cache),
}
"""By name: the kind that reads it and what writes it."""


def rewrite_json(file: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
