"""Masked cross-entropy that scores only the tokens to be predicted, a chunk of them at a time.

    hidden (N, D) --chunk--> logits --in place--> log-probabilities --in place--> gradient of logits
                                       | losses            | gradients of hidden and table, added up

A chunk's gradients are taken in the forward pass, while its logits are there: they are never
computed twice, and no more than `MAX_LOGITS` of them exist. The backward pass multiplies.

Shapes: B batch, T tokens, N tokens under the mask, D width, V vocabulary, n tokens of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_LOGITS = 1 << 24
"""Logits held at once: 64 MiB in float32."""
ALIGNMENT = 64
"""On a GPU the table is padded to a multiple of so many rows, which its fast products want."""


@dataclass(frozen=True, kw_only=True)
class TrainOutput:
    """Output of a training forward.

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
    table_VD: Tensor,
    weights_B: Tensor | None = None,
) -> TrainOutput:
    """Cross-entropy of the labels under the mask.

    Args:
        hidden_ND: Last hidden states of the N tokens under the mask, (N, D).
        places_N: Their places, from `target_places`.
        labels_BT: int64 (B, T); ignored outside the mask.
        loss_mask_BT: bool (B, T).
        table_VD: A row for each id, (V, D); logits are the products with them.
        weights_B: Weight of each sequence's targets, (B,); None: all 1.
    """
    labels_N = labels_BT.flatten().index_select(0, places_N)
    rows_N = torch.div(places_N, loss_mask_BT.shape[1], rounding_mode="floor")
    weights_N = None if weights_B is None else weights_B.index_select(0, rows_N)
    loss_sum, losses_N = LinearCrossEntropy.apply(hidden_ND, table_VD, labels_N, weights_N)
    sample_targets = loss_mask_BT.sum(dim=1)
    num_targets = sample_targets.sum()
    sample_loss = losses_N.new_zeros(len(sample_targets)).index_add(0, rows_N, losses_N)
    total = num_targets if weights_B is None else (weights_B * sample_targets).sum()
    return TrainOutput(
        loss=loss_sum / total.clamp(min=1e-9),
        loss_sum=loss_sum,
        num_targets=num_targets,
        sample_loss=sample_loss,
        sample_targets=sample_targets,
    )


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of logits hidden @ table^T, without keeping the logits.

    Takes hidden (N, D), table (V, D), labels int64 (N,) and weights (N,) or None; returns the
    weighted sum of the losses, and each loss (N,), which carries no gradient. Both are float32, or
    float64 for float64.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        table_VD: Tensor,
        labels_N: Tensor,
        weights_N: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # (), (N,)
        exact = torch.promote_types(hidden_ND.dtype, torch.float32)
        size, padded = len(table_VD), _padded(table_VD)
        wants_hidden, wants_table = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
        grad_table = torch.zeros_like(padded, dtype=exact) if wants_table else None
        losses_N = hidden_ND.new_empty(len(hidden_ND), dtype=exact)
        step = max(1, MAX_LOGITS // len(padded))
        for start in range(0, len(hidden_ND), step):
            chunk = slice(start, start + step)
            hidden, labels_n1 = hidden_ND[chunk], labels_N[chunk, None]
            logits = (hidden @ padded.t()).to(exact)
            logits[:, size:] = -torch.inf
            scores = torch.log_softmax(logits, dim=1, out=logits)
            losses_N[chunk] = -scores.gather(1, labels_n1).squeeze(1)
            if grad_hidden is None and grad_table is None:
                continue
            weights = None if weights_N is None else weights_N[chunk]
            grad = _gradient(scores, labels_n1, weights).to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(grad, padded, out=grad_hidden[chunk])
            if grad_table is not None:
                _add_product(grad_table, grad, hidden)
        ctx.save_for_backward(grad_hidden, None if grad_table is None else grad_table[:size])
        ctx.table_dtype = table_VD.dtype
        ctx.mark_non_differentiable(losses_N)
        weighted = losses_N if weights_N is None else losses_N * weights_N
        return weighted.sum(), losses_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_table = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = grad_hidden * grad_sum.to(grad_hidden.dtype)
        if grad_table is not None:
            grad_table = (grad_table * grad_sum).to(ctx.table_dtype)
        return grad_hidden, grad_table, None, None


def _padded(table_VD: Tensor) -> Tensor:
    """The table, on a GPU with rows of zeros up to a multiple of `ALIGNMENT`."""
    missing = -len(table_VD) % ALIGNMENT if table_VD.device.type == "cuda" else 0
    return F.pad(table_VD, (0, 0, 0, missing)) if missing else table_VD


def _gradient(scores_nV: Tensor, labels_n1: Tensor, weights_n: Tensor | None) -> Tensor:
    """Log-probabilities -> gradient of the weighted losses to the logits, in place."""
    grad_nV = scores_nV.exp_()
    grad_nV.scatter_(1, labels_n1, grad_nV.gather(1, labels_n1) - 1.0)
    return grad_nV if weights_n is None else grad_nV.mul_(weights_n[:, None])


def _add_product(total_VD: Tensor, grad_nV: Tensor, hidden_nD: Tensor) -> None:
    """Adds grad^T @ hidden to a sum that is float32 or finer."""
    if total_VD.dtype == grad_nV.dtype:
        total_VD.addmm_(grad_nV.t(), hidden_nD)
    else:
        total_VD.add_(grad_nV.t() @ hidden_nD)
