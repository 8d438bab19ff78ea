"""A batch in one block of memory: it crosses to another process or device in one piece.

    | ids | local positions | labels | places | loss mask | weights | numbers | pixels | ...
      int64 (B, T), each                (N,)      bool       float32   patches, then image groups

Every tensor starts at a multiple of 64 bytes; `PackedBatch.batch` gives views of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from db1.model.batch import Batch, ImageGroup, NumberGroup

_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class BatchLayout:
    """Shapes of a batch.

    Args:
        batch_size: B.
        length: T.
        num_targets: N, tokens to be predicted.
        weight_of_targets: Sum of their weights.
        images: (number of images, height, width, channels, patches of an image) of each group.
        sources: Name of each sequence's source, length B.
        numbers: (number of number patches, numbers in a patch); None: there are none.
    """

    batch_size: int
    length: int
    num_targets: int
    weight_of_targets: float
    images: tuple[tuple[int, int, int, int, int], ...]
    sources: tuple[str, ...]
    numbers: tuple[int, int] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the block."""
        return sum(_aligned(_num_bytes(*tensor)) for tensor in self.tensors())

    def tensors(self) -> Iterator[tuple[torch.dtype, tuple[int, ...]]]:
        """Dtype and shape of each tensor, in their order in memory."""
        tokens = (self.batch_size, self.length)
        yield from [(torch.int64, tokens)] * 3
        yield torch.int64, (self.num_targets,)
        yield torch.bool, tokens
        yield torch.float32, (self.batch_size,)
        if self.numbers is not None:
            yield torch.float32, self.numbers
            yield torch.int32, self.numbers
            yield torch.int32, self.numbers[:1]
            yield torch.int64, self.numbers[:1]
        for num_images, *size, num_patches in self.images:
            yield torch.uint8, (num_images, *size)
            yield torch.int64, (num_images, num_patches)


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """A batch in one block of memory.

    Args:
        block: uint8 (number of bytes,), on any device.
        layout: What lies in it.
    """

    block: Tensor
    layout: BatchLayout

    def batch(self) -> Batch:
        """Its tensors, as views of the block."""
        views, offset = [], 0
        for dtype, shape in self.layout.tensors():
            num_bytes = _num_bytes(dtype, shape)
            views.append(self.block[offset : offset + num_bytes].view(dtype).view(shape))
            offset += _aligned(num_bytes)
        ids, local_positions, labels, target_places, *rest = views
        loss_mask, target_weights, *rest = rest
        numbers, images = None, rest
        if self.layout.numbers is not None:
            values, codes, layouts, positions, *images = rest
            numbers = NumberGroup(values=values, codes=codes, layouts=layouts, positions=positions)
        groups = zip(images[::2], images[1::2], strict=True)
        return Batch(
            ids=ids,
            local_positions=local_positions,
            labels=labels,
            loss_mask=loss_mask,
            images=tuple(ImageGroup(pixels=p, positions=places) for p, places in groups),
            sources=self.layout.sources,
            target_weights=target_weights,
            numbers=numbers,
            target_places=target_places,
            weight_of_targets=self.layout.weight_of_targets,
        )

    def pinned(self) -> PackedBatch:
        """Copies it to page-locked memory, which a GPU reads without help."""
        return replace(self, block=self.block.pin_memory())

    def to(self, device: torch.device) -> PackedBatch:
        """Copies it to a device in one transfer, which page-locked memory need not wait for."""
        return replace(self, block=self.block.to(device, non_blocking=True))


def _num_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
