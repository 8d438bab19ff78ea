"""Attention by its definition: all scores, position scores picked by distance, a softmax.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
)
from db1.model.visibility import Visibility


class ReferenceAttention(AttentionKernel):
    """Plain operations in at least float32, on any device and for any size."""

    name = "reference"

    def refusal(self, request: AttentionRequest) -> str | None:
        return None

    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        exact = torch.promote_types(inputs.q.dtype, torch.float32)
        qu, qv = inputs.biased_queries()
        scores = qu.to(exact) @ inputs.k.to(exact).transpose(2, 3)
        distance_TS = visibility.distances()
        # Distances below 0 are hidden; they read the vector of -1.
        place_TS = visibility.num_keys - 1 - distance_TS.clamp(min=-1)
        if inputs.vectors is not None:
            by_distance = qv.to(exact) @ inputs.vectors.to(exact).transpose(1, 2)
            scores = scores + by_distance.gather(3, place_TS.expand(scores.shape))
        if inputs.scores is not None:
            scores = scores + inputs.scores.to(exact)[:, place_TS]
        hidden = visibility.hidden()
        scores = scores.masked_fill(hidden, torch.finfo(exact).min)
        weights = scores.softmax(dim=3).masked_fill(hidden, 0.0)
        return (F.dropout(weights, dropout) @ inputs.v.to(exact)).to(inputs.q.dtype)


ATTENTION_KERNELS.register(ReferenceAttention.name)(ReferenceAttention())
