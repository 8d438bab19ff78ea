"""Episodes as an environment would record them, before they are written in any format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(kw_only=True)
class Raw:
    """One episode.

    Args:
        observations: T + 1 of them, an array (T + 1, ...) or a mapping of arrays.
        actions: T actions (T, ...).
        rewards: (T,).
        terminated: The task itself ended.
        seed: Of the environment's reset.
        infos: Arrays beside the observations.
    """

    observations: Any
    actions: Any
    rewards: Any
    terminated: bool = True
    seed: int | None = None
    infos: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


Write = Callable[[Path, Sequence[Raw]], str]
"""Writes episodes into a folder that is not there yet; returns the SOURCE of `db1 import`."""


def numbers(
    length: int,
    seed: int,
    low: float = -1.0,
    high: float = 1.0,
    *,
    observed: int = 4,
    acted: int = 2,
) -> Raw:
    """An episode of `observed` numbers and `acted` continuous actions, all exact in float32."""
    rng = np.random.default_rng(seed)
    return Raw(
        observations=rng.normal(size=(length + 1, observed)).astype(np.float32),
        actions=rng.uniform(low, high, (length, acted)).astype(np.float32),
        rewards=rng.integers(0, 8, length).astype(np.float32),
        terminated=bool(seed % 2),
    )


def cut(num_steps: int, length: int) -> list[int]:
    """Lengths of episodes of `length` steps, the last one perhaps shorter; they add up."""
    whole, rest = divmod(num_steps, length)
    return [length] * whole + ([rest] if rest else [])
