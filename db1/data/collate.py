"""Segments (NumPy) -> a batch (torch) in one block of memory: the only crossing between the two.

    | ids | local positions | labels | places | loss mask | weights | numbers | pixels | ...
      int64 (B, T), each                (N,)      bool       float32   patches, then image groups

Every tensor starts at a multiple of 64 bytes; `PackedBatch.batch` gives views of them. So a batch
crosses to another process or device in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from db1.model.batch import Batch, ImageGroup, NumberGroup
from db1.sequence.segment import TokenSegment, place_images, place_numbers

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
        block: uint8 (number of bytes,), on any device; None: in a slot that the receiver knows.
        layout: What lies in it.
        slot: Number of the slot (`transport/slots.py`) on its way out of a reader process; None:
            the block is its own.
    """

    block: Tensor | None
    layout: BatchLayout
    slot: int | None = None

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


def collate(samples: Sequence[TokenSegment]) -> Batch:
    """Stacks sequences of one length, shifts labels by one token, groups images by size."""
    return pack(samples).batch()


def pack(samples: Sequence[TokenSegment]) -> PackedBatch:
    """Packs the batch that `collate` makes into one block of memory."""
    packing = Packing(samples)
    block = torch.empty(packing.layout.num_bytes, dtype=torch.uint8)
    packed = PackedBatch(block=block, layout=packing.layout)
    packing.fill(packed)
    return packed


class Packing:
    """Knows how much room the batch of some samples takes, and fills it.

    Args:
        samples: Sequences of one length.

    Attributes:
        layout: Shapes of the batch.
    """

    def __init__(self, samples: Sequence[TokenSegment]) -> None:
        self._samples = samples
        self._ids = np.stack([sample.ids[:-1] for sample in samples])
        self._images = place_images(samples, self._ids)
        self._numbers = place_numbers(samples, self._ids)
        self._mask = np.stack([sample.targets[1:] for sample in samples])
        self._weights = np.array([sample.target_weight for sample in samples], dtype=np.float32)
        self.layout = BatchLayout(
            batch_size=len(samples),
            length=self._ids.shape[1],
            num_targets=int(self._mask.sum()),
            weight_of_targets=float(self._mask.sum(axis=1) @ self._weights.astype(np.float64)),
            images=tuple((len(i), *i[0].shape, places.shape[1]) for i, places in self._images),
            numbers=None if self._numbers is None else self._numbers[0].values.shape,
            sources=tuple(sample.source for sample in samples),
        )

    def fill(self, packed: PackedBatch) -> None:
        """Writes all tensors of `packed`, which has this layout."""
        batch = packed.batch()
        batch.ids.numpy()[:] = self._ids
        batch.target_weights.numpy()[:] = self._weights
        batch.loss_mask.numpy()[:] = self._mask
        batch.target_places.numpy()[:] = self._mask.ravel().nonzero()[0]
        rows = zip(self._samples, batch.local_positions.numpy(), batch.labels.numpy(), strict=True)
        for sample, local_positions, labels in rows:
            local_positions[:] = sample.local_positions[:-1]
            labels[:] = sample.label_ids[1:]
        if self._numbers is not None:
            (patches, positions), group = self._numbers, batch.numbers
            group.values.numpy()[:] = patches.values
            group.codes.numpy()[:] = patches.codes
            group.layouts.numpy()[:] = patches.layouts
            group.positions.numpy()[:] = positions
        for group, (images, positions) in zip(batch.images, self._images, strict=True):
            group.positions.numpy()[:] = positions
            for pixels, image in zip(group.pixels.numpy(), images, strict=True):
                pixels[:] = image


def _num_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
