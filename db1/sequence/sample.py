"""What the data side hands to the model: one training sequence, and a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

NO_LOCAL_POSITION = -1
"""Local position of tokens that get no local position embedding (all but control tokens)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sequence of T + 1 tokens, cut for next-token prediction by `Batch`.

    Args:
        ids: int32 (T + 1,); `IMAGE_PLACEHOLDER` where an image patch stands.
        target_mask: bool (T + 1,); True where the token is to be predicted (action or text).
        local_positions: int32 (T + 1,); 1, 2, ... inside an observation, 0 for action tokens,
            `NO_LOCAL_POSITION` for text outside of control.
        images: uint8 arrays (H, W, C) in the order of their placeholders; each one stands for
            (H / patch) * (W / patch) placeholders, row-major.
        source: What the sequence was drawn from, for losses by task: a task id or text name.
        prompt_length: Number of leading tokens that belong to a prompt episode.
        target_weight: Weight of each of its targets in the loss.
        labels: int32 (T + 1,), what is to be predicted where it differs from what the model
            reads back (see `SequenceConfig.history_noise`); None: `ids`.
    """

    ids: np.ndarray
    target_mask: np.ndarray
    local_positions: np.ndarray
    source: str
    images: tuple[np.ndarray, ...] = field(default=())
    prompt_length: int = 0
    target_weight: float = 1.0
    labels: np.ndarray | None = None

    @property
    def label_ids(self) -> np.ndarray:
        """`labels`, or `ids` where there are none."""
        return self.ids if self.labels is None else self.labels


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """All images of one size in a batch.

    Args:
        pixels: uint8 torch.Tensor (N, H, W, C).
        positions: int64 torch.Tensor (N, P): for each patch, row-major, its place in the flattened
            (B * T) tokens; B * T (one past the end) for patches cut off by the window's end.
    """

    pixels: object
    positions: object


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs and targets as torch tensors; B sequences of T tokens.

    Args:
        ids: int64 (B, T): all tokens but the last; `IMAGE_PLACEHOLDER` at image patches.
        local_positions: int64 (B, T); `NO_LOCAL_POSITION` where none.
        labels: int64 (B, T): all tokens but the first; meaningless where loss_mask is False.
        loss_mask: bool (B, T); True where the label is to be predicted.
        images: Images by size.
        sources: Name of each sequence's source, length B.
        target_weights: float32 (B,), weight of each sequence's targets in the loss; None: all 1.
    """

    ids: object
    local_positions: object
    labels: object
    loss_mask: object
    images: tuple[ImageGroup, ...] = ()
    sources: tuple[str, ...] = ()
    target_weights: object | None = None
