"""Input of the model: a batch of sequences as torch tensors, its images grouped by size."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """All images of one size in a batch.

    Args:
        pixels: uint8 (N, H, W, C).
        positions: int64 (N, P): for each patch, row-major, its place in the flattened
            (B * T) tokens; B * T (one past the end) for patches cut off by the window's end.
    """

    pixels: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class NumberGroup:
    """All number patches of a batch; see `db1.tokens.number_patch`.

    Args:
        values: float32 (N, G), continuous numbers.
        codes: int32 (N, G), what each number is.
        layouts: int32 (N,), what the numbers of a patch stand for.
        positions: int64 (N,), place of each patch in the flattened (B * T) tokens.
    """

    values: torch.Tensor
    codes: torch.Tensor
    layouts: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs and targets as torch tensors; B sequences of T tokens.

    Args:
        ids: int64 (B, T): all tokens but the last; placeholders at image and number patches.
        local_positions: int64 (B, T); `NO_LOCAL_POSITION` where none.
        labels: int64 (B, T): all tokens but the first; meaningless where loss_mask is False.
        loss_mask: bool (B, T); True where the label is to be predicted.
        images: Images by size.
        sources: Name of each sequence's source, length B.
        target_weights: float32 (B,), weight of each sequence's targets in the loss; None: all 1.
        numbers: Number patches; None: there are none.
        target_places: int64 (N,), places of the targets in the flattened (B * T) tokens, ascending;
            None: the model finds them in `loss_mask`, for which the host waits on a GPU.
        weight_of_targets: Sum of the weights of all targets, known to the host; None: unknown.
    """

    ids: torch.Tensor
    local_positions: torch.Tensor
    labels: torch.Tensor
    loss_mask: torch.Tensor
    images: tuple[ImageGroup, ...] = ()
    sources: tuple[str, ...] = ()
    target_weights: torch.Tensor | None = None
    numbers: NumberGroup | None = None
    target_places: torch.Tensor | None = None
    weight_of_targets: float | None = None
