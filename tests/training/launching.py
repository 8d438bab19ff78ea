"""Starts the processes of a training without a launcher, which takes seconds itself."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What a launcher sets, with one thread a process."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
