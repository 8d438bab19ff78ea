"""Samples (NumPy) -> a batch (torch): the only crossing between the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from db1.sequence.sample import Batch, ImageGroup, Sample
from db1.tokens.image import PATCH_SIZE, num_patches
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks sequences of one length, shifts labels by one token, groups images by size."""
    ids = np.stack([sample.ids for sample in samples]).astype(np.int64)
    labels = np.stack([sample.label_ids for sample in samples]).astype(np.int64)
    targets = np.stack([sample.target_mask for sample in samples])
    positions = np.stack([sample.local_positions for sample in samples]).astype(np.int64)
    return Batch(
        ids=torch.from_numpy(ids[:, :-1].copy()),
        local_positions=torch.from_numpy(positions[:, :-1].copy()),
        labels=torch.from_numpy(labels[:, 1:].copy()),
        loss_mask=torch.from_numpy(targets[:, 1:].copy()),
        images=group_images([s.images for s in samples], ids[:, :-1]),
        sources=tuple(sample.source for sample in samples),
        target_weights=torch.tensor([sample.target_weight for sample in samples]),
    )


def group_images(
    images: Sequence[Sequence[np.ndarray]], ids: np.ndarray, patch_size: int = PATCH_SIZE
) -> tuple[ImageGroup, ...]:
    """Finds the place of every patch and groups the images by size.

    Args:
        images: For each row its images (H, W, C) uint8, in the order of their placeholders.
        ids: (B, T) with `IMAGE_PLACEHOLDER` at patches; the last image may be cut off.
        patch_size: Side of a patch.
    """
    by_shape: dict[tuple[int, ...], tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for row, row_images in enumerate(images):
        if not row_images:
            continue
        places = np.flatnonzero(ids[row] == IMAGE_PLACEHOLDER) + row * ids.shape[1]
        taken = 0
        for image in row_images:
            count = num_patches(*image.shape[:2], patch_size)
            place = places[taken : taken + count]
            taken += count
            if not len(place):
                break
            pixels, positions = by_shape.setdefault(image.shape, ([], []))
            pixels.append(image)
            positions.append(np.pad(place, (0, count - len(place)), constant_values=ids.size))
    return tuple(
        ImageGroup(
            pixels=torch.from_numpy(np.stack(pixels)),
            positions=torch.from_numpy(np.stack(positions).astype(np.int64)),
        )
        for pixels, positions in by_shape.values()
    )
