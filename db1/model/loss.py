"""Masked cross-entropy that scores only the tokens to be predicted.

Shapes: B batch, T tokens, N tokens under the mask, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 1 << 26
"""Logits held at once; more are scored in chunks, and again in the backward pass."""


@dataclass(frozen=True, kw_only=True)
class TrainOutput:
    """What a training forward returns.

    Args:
        loss: Scalar: sum of masked losses / sum of the mask (0 when nothing is to be predicted),
            both weighted by the batch's target weights.
        loss_sum: Scalar: sum of masked losses, weighted.
        num_targets: int64 scalar: sum of the mask.
        sample_loss: (B,), of the loss's type: summed loss of each sequence, not weighted, detached.
        sample_targets: int64 (B,): tokens under the mask in each sequence.
    """

    loss: Tensor
    loss_sum: Tensor
    num_targets: Tensor
    sample_loss: Tensor
    sample_targets: Tensor


def target_places(loss_mask_BT: Tensor) -> Tensor:
    """Places of the tokens under the mask in the flattened (B * T) tokens, int64 (N,)."""
    return loss_mask_BT.flatten().nonzero().squeeze(1)


def masked_loss(
    hidden_ND: Tensor,
    places_N: Tensor,
    labels_BT: Tensor,
    loss_mask_BT: Tensor,
    score: Callable[[Tensor], Tensor],
    vocabulary_size: int,
    weights_B: Tensor | None = None,
) -> TrainOutput:
    """Cross-entropy of the labels under the mask.

    Args:
        hidden_ND: Last hidden states of the tokens under the mask.
        places_N: Their places, from `target_places`.
        labels_BT: int64; ignored outside the mask.
        loss_mask_BT: bool.
        score: Hidden states (N, D) -> logits (N, V).
        vocabulary_size: V.
        weights_B: Weight of each sequence's targets; None: all 1.
    """
    labels_N = labels_BT.flatten().index_select(0, places_N)
    losses_N = _cross_entropy(hidden_ND, labels_N, score, vocabulary_size)
    sample_targets = loss_mask_BT.sum(dim=1)
    num_targets = sample_targets.sum()
    rows_N = torch.div(places_N, loss_mask_BT.shape[1], rounding_mode="floor")
    sample_loss = losses_N.new_zeros(len(sample_targets)).index_add(0, rows_N, losses_N.detach())
    if weights_B is None:
        loss_sum, total = losses_N.sum(), num_targets
    else:
        loss_sum = (losses_N * weights_B[rows_N]).sum()
        total = (weights_B * sample_targets).sum()
    return TrainOutput(
        loss=loss_sum / total.clamp(min=1e-9),
        loss_sum=loss_sum,
        num_targets=num_targets,
        sample_loss=sample_loss,
        sample_targets=sample_targets,
    )


def _cross_entropy(
    hidden_ND: Tensor, labels_N: Tensor, score: Callable[[Tensor], Tensor], vocabulary_size: int
) -> Tensor:
    """Losses float32 (N,), in chunks when there are more than `MAX_LOGITS` logits."""

    def losses(hidden: Tensor, labels: Tensor) -> Tensor:
        logits = score(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.cross_entropy(logits, labels, reduction="none")

    size = max(1, MAX_LOGITS // vocabulary_size)
    if len(labels_N) <= size:
        return losses(hidden_ND, labels_N)
    chunks = zip(hidden_ND.split(size), labels_N.split(size), strict=True)
    return torch.cat([checkpoint(losses, h, y, use_reentrant=False) for h, y in chunks])
