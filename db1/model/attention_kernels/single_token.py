"""One query a row on a CPU, where reading the keys is the work: keys times the query.

Shapes: B batch, S key tokens, H heads, K head width, P = S + 1 distances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
)
from db1.model.visibility import Visibility


class TokenAttention(AttentionKernel):
    """Reads keys and position vectors as they lie in memory."""

    name = "token"

    def refusal(self, request: AttentionRequest) -> str | None:
        if request.device.type != "cpu":
            return f"it runs on a CPU, got {request.device.type}"
        if request.num_queries != 1:
            return f"it takes one token at a time, got {request.num_queries}"
        return "it has no dropout on attention weights" if request.dropout else None

    def prepare(self, visibility: Visibility) -> Visibility:
        return visibility.with_additive()

    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        qu_BH1K, qv_BH1K = inputs.biased_queries()
        scores_BHS1 = inputs.k @ qu_BH1K.transpose(2, 3)
        if inputs.vectors is not None:
            by_distance_HPB = inputs.vectors @ qv_BH1K[:, :, 0].permute(1, 2, 0)
            scores_BHS1 = scores_BHS1 + by_distance_HPB[:, :-1].permute(2, 0, 1)[..., None]
        if inputs.scores is not None:
            scores_BHS1 = scores_BHS1 + inputs.scores[:, :-1, None]
        if visibility.additive is not None:
            scores_BHS1 = scores_BHS1 + visibility.additive.transpose(-2, -1)
        exact = torch.promote_types(scores_BHS1.dtype, torch.float32)
        weights_BHS1 = scores_BHS1.softmax(dim=2, dtype=exact).type_as(inputs.v)
        out = weights_BHS1.transpose(2, 3) @ inputs.v
        return out if visibility.blind is None else out.masked_fill(visibility.blind, 0.0)


ATTENTION_KERNELS.register(TokenAttention.name)(TokenAttention())
