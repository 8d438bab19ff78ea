"""Gives the batches of all processes images of the same sizes.

A vision encoder runs once for each image size in a batch. Where gradients or parameters are
sharded, processes that run different modules in a step wait for one another for ever. So every
process learns which sizes the others hold, and adds one black image of each size it lacks: an
image whose patches all stand one past the end of the batch (as patches that a window's end cut
off), so that they reach no token, no loss and, with a weight of zero, the encoder's gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from db1.model.batch import Batch, ImageGroup

ImageSize = tuple[int, int, int, int]
"""Height, width, channels, patches."""


def image_sizes(batch: Batch) -> frozenset[ImageSize]:
    """The image sizes in a batch."""
    return frozenset(_size(group) for group in batch.images)


def with_image_sizes(batch: Batch, sizes: Iterable[ImageSize]) -> Batch:
    """Returns the batch with a group of each of the sizes (a superset of its own), sorted.

    Args:
        batch: A micro-batch.
        sizes: Sizes that any process holds in this micro-batch.
    """
    past_end, device = batch.ids.numel(), batch.ids.device
    groups = {_size(group): group for group in batch.images}
    for size in set(sizes) - groups.keys():
        height, width, channels, patches = size
        groups[size] = ImageGroup(
            pixels=torch.zeros(1, height, width, channels, dtype=torch.uint8, device=device),
            positions=torch.full((1, patches), past_end, dtype=torch.int64, device=device),
        )
    return replace(batch, images=tuple(groups[size] for size in sorted(groups)))


def _size(group: ImageGroup) -> ImageSize:
    _, height, width, channels = group.pixels.shape
    return height, width, channels, group.positions.shape[1]
