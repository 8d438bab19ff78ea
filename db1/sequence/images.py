"""Positions of image patches among the tokens of a batch.

    row 0   text  p0  p1 | SEP ...      the two patches of the row's first image
    row 1   p1 | x0  SEP ...            its first patch lies before this stretch of tokens

Images of one size share a group, so that a vision encoder runs once for each size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from db1.tokens.image import PATCH_SIZE, num_patches
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER


@dataclass(frozen=True, kw_only=True)
class PlacedImages:
    """Images of one size.

    Args:
        images: uint8 (H, W, C), each.
        positions: int64 (number of images, P): place of each patch, row-major, in the flattened
            (B * T) tokens; B * T (one past the end) for patches outside the batch.
    """

    images: tuple[np.ndarray, ...]
    positions: np.ndarray


def place_images(
    images: Sequence[Sequence[np.ndarray]],
    ids: np.ndarray,
    patch_size: int = PATCH_SIZE,
    skipped_patches: Sequence[int] | None = None,
) -> list[PlacedImages]:
    """Finds the place of every patch and groups the images by size.

    Args:
        images: For each row its images (H, W, C), in the order of their placeholders. Those
            without any placeholder in the row are left out.
        ids: (B, T) with `IMAGE_PLACEHOLDER` at patches.
        patch_size: Side of a patch.
        skipped_patches: For each row the patches of its first image that lie before its tokens;
            None: none.
    """
    found: dict[tuple[int, ...], tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for row, row_images in enumerate(images):
        places = np.flatnonzero(ids[row] == IMAGE_PLACEHOLDER) + row * ids.shape[1]
        if not row_images or not len(places):
            continue
        skipped = 0 if skipped_patches is None else skipped_patches[row]
        shapes = [image.shape for image in row_images]
        patches_of = {shape: num_patches(*shape[:2], patch_size) for shape in set(shapes)}
        counts = [patches_of[shape] for shape in shapes]
        stops = np.cumsum(counts)
        starts = stops - counts
        all_places = np.full(stops[-1], ids.size, dtype=np.int64)
        all_places[skipped : skipped + len(places)] = places[: stops[-1] - skipped]
        is_seen = (stops > skipped) & (starts < skipped + len(places))
        seen = np.flatnonzero(is_seen).tolist()
        for shape in dict.fromkeys(shapes[i] for i in seen):
            chosen = [i for i in seen if shapes[i] == shape]
            group, positions = found.setdefault(shape, ([], []))
            group += [row_images[i] for i in chosen]
            patches = np.arange(counts[chosen[0]])
            positions.append(all_places[starts[chosen, None] + patches])
    return [
        PlacedImages(images=tuple(group), positions=np.concatenate(positions))
        for group, positions in found.values()
    ]
