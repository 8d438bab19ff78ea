"""Tile sizes of the fused kernels by kernel, head width and GPU.

Chosen by compiling all of them without a GPU (`test_fused_compiled.py`): the largest that
neither spill registers nor pass the shared memory of the GPU. None has been timed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_WIDTH = 128
"""Widest head."""

KERNELS = ("forward", "scores", "queries", "keys")


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Launch parameters of a kernel.

    Args:
        size: Queries and keys of a tile.
        num_warps: Warps of 32 threads.
        num_stages: Tiles in flight from memory.
    """

    size: int
    num_warps: int
    num_stages: int


def padded_width(head_dim: int) -> int:
    """The power of two that a head is padded to in registers."""
    return max(16, 1 << (head_dim - 1).bit_length())


def tile_of(kernel: str, q: Tensor) -> Tile:
    """The tile of a kernel (one of `KERNELS`) for queries (B, H, T, K)."""
    if not q.is_cuda:
        return Tile(size=32, num_warps=1, num_stages=1)
    return tile_for(kernel, padded_width(q.shape[3]), torch.cuda.get_device_capability(q.device))


def tile_for(kernel: str, width: int, capability: tuple[int, int]) -> Tile:
    """The tile of a kernel for heads padded to `width` on a GPU of that capability.

    The three kernels of the backward have tiles of one size, as they share their blocks.
    """
    if capability >= (9, 0):
        return _HOPPER[kernel]
    if kernel == "forward" and width == MAX_WIDTH:
        return Tile(size=64, num_warps=8, num_stages=1)
    return Tile(size=32, num_warps=4, num_stages=1 if kernel == "scores" else 2)


_HOPPER = {
    "forward": Tile(size=64, num_warps=8, num_stages=2),
    "scores": Tile(size=64, num_warps=8, num_stages=2),
    "queries": Tile(size=64, num_warps=4, num_stages=3),
    "keys": Tile(size=64, num_warps=8, num_stages=2),
}
