"""Token pieces of different lengths -> one left-padded batch for `TransformerXL.decode`.

row 0   .  .  a  b  c        lengths 3, 5
row 1   d  e  f  g  h        real tokens end at the right edge
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from db1.model.batch import ImageGroup, NumberGroup
from db1.sequence.images import place_images
from db1.sequence.numbers import place_numbers
from db1.sequence.sample import NO_LOCAL_POSITION
from db1.tokens.image import num_patches
from db1.tokens.number_patch import NumberPatches
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of one row's tokens.

    Args:
        ids: int32 (n,); placeholders at image and number patches.
        local_positions: int32 (n,).
        images: uint8 (H, W, C) in the order of their placeholders; the last may be cut off.
        skipped_patches: Leading patches of the first image that lie before this stretch.
        numbers: Number patches in the order of their placeholders; None: there are none.
    """

    ids: np.ndarray
    local_positions: np.ndarray
    images: tuple[np.ndarray, ...] = ()
    skipped_patches: int = 0
    numbers: NumberPatches | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class RaggedBatch:
    """Arguments of `TransformerXL.decode`.

    Args:
        ids: int64 (B, T).
        local_positions: int64 (B, T).
        images: Images by size; positions count in the flattened (B * T) tokens.
        lengths: int64 (B,), real tokens of each row; None when no row is padded.
        numbers: Number patches; None: there are none.
    """

    ids: torch.Tensor
    local_positions: torch.Tensor
    images: tuple[ImageGroup, ...]
    lengths: torch.Tensor | None
    numbers: NumberGroup | None = None


def cut(piece: Piece, start: int, stop: int, patch_size: int) -> Piece:
    """Tokens [start, stop) of `piece`, with the images that still have a patch in them."""
    skipped = piece.skipped_patches + int((piece.ids[:start] == IMAGE_PLACEHOLDER).sum())
    images = list(piece.images)
    while images and skipped >= num_patches(*images[0].shape[:2], patch_size):
        skipped -= num_patches(*images.pop(0).shape[:2], patch_size)
    numbers = piece.numbers
    if numbers is not None:
        first = int((piece.ids[:start] == NUMBER_PLACEHOLDER).sum())
        count = int((piece.ids[start:stop] == NUMBER_PLACEHOLDER).sum())
        numbers = numbers[first : first + count]
    return Piece(
        ids=piece.ids[start:stop],
        local_positions=piece.local_positions[start:stop],
        images=tuple(images),
        skipped_patches=skipped if images else 0,
        numbers=numbers,
    )


def left_pad(
    pieces: Sequence[Piece], pad_id: int, patch_size: int, device: torch.device | str
) -> RaggedBatch:
    """Stacks pieces as rows whose tokens end at the right edge.

    Args:
        pieces: One a row; a piece may be empty, but not all.
        pad_id: Any id of the vocabulary; the model never attends to it.
        patch_size: Side of an image patch in pixels.
        device: Where the tensors go.
    """
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    width = int(lengths.max())
    ids = np.full((len(pieces), width), pad_id, dtype=np.int64)
    positions = np.full((len(pieces), width), NO_LOCAL_POSITION, dtype=np.int64)
    for row, piece in enumerate(pieces):
        if len(piece):
            ids[row, -len(piece) :] = piece.ids
            positions[row, -len(piece) :] = piece.local_positions
    ragged = bool((lengths != width).any())
    return RaggedBatch(
        ids=torch.from_numpy(ids).to(device),
        local_positions=torch.from_numpy(positions).to(device),
        images=tuple(
            ImageGroup(
                pixels=torch.from_numpy(np.stack(placed.images)).to(device),
                positions=torch.from_numpy(placed.positions).to(device),
            )
            for placed in place_images(
                [piece.images for piece in pieces],
                ids,
                patch_size,
                [piece.skipped_patches for piece in pieces],
            )
        ),
        lengths=torch.from_numpy(lengths).to(device) if ragged else None,
        numbers=_number_group([piece.numbers for piece in pieces], ids, device),
    )


def _number_group(
    numbers: Sequence[NumberPatches | None], ids: np.ndarray, device: torch.device | str
) -> NumberGroup | None:
    placed = place_numbers(numbers, ids)
    if placed is None:
        return None
    patches = placed.patches
    return NumberGroup(
        values=torch.tensor(patches.values).to(device),
        codes=torch.tensor(patches.codes).to(device),
        layouts=torch.tensor(patches.layouts).to(device),
        positions=torch.from_numpy(placed.positions).to(device),
    )
