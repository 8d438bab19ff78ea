"""Samples (NumPy) -> a batch (torch): the only crossing between the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from db1.data.transport.packing import BatchLayout, PackedBatch
from db1.model.batch import Batch
from db1.sequence.images import PlacedImages, place_images
from db1.sequence.numbers import place_numbers
from db1.sequence.sample import Sample


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks sequences of one length, shifts labels by one token, groups images by size."""
    return pack(samples).batch()


def pack(samples: Sequence[Sample]) -> PackedBatch:
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

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._ids = np.stack([sample.ids[:-1] for sample in samples])
        self._images = place_images([sample.images for sample in samples], self._ids)
        self._numbers = place_numbers([sample.numbers for sample in samples], self._ids)
        self._mask = np.stack([sample.target_mask[1:] for sample in samples])
        self._weights = np.array([sample.target_weight for sample in samples], dtype=np.float32)
        self.layout = BatchLayout(
            batch_size=len(samples),
            length=self._ids.shape[1],
            num_targets=int(self._mask.sum()),
            weight_of_targets=float(self._mask.sum(axis=1) @ self._weights.astype(np.float64)),
            images=tuple(_shape(group) for group in self._images),
            numbers=None if self._numbers is None else self._numbers.patches.values.shape,
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
            patches, group = self._numbers.patches, batch.numbers
            group.values.numpy()[:] = patches.values
            group.codes.numpy()[:] = patches.codes
            group.layouts.numpy()[:] = patches.layouts
            group.positions.numpy()[:] = self._numbers.positions
        for group, placed in zip(batch.images, self._images, strict=True):
            group.positions.numpy()[:] = placed.positions
            for pixels, image in zip(group.pixels.numpy(), placed.images, strict=True):
                pixels[:] = image


def _shape(group: PlacedImages) -> tuple[int, int, int, int, int]:
    height, width, channels = group.images[0].shape
    return len(group.images), height, width, channels, group.positions.shape[1]
