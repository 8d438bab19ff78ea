"""All scores at once, through PyTorch's fused attention with the position scores as its mask.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
P = S + 1 distances.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
    shift,
)
from db1.model.visibility import Visibility

GPU_BACKENDS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Pinned: cuDNN's would be picked in evaluation only, with other numerics than in training and a
new plan for each memory length; flash attention takes no mask."""


class SdpaAttention(AttentionKernel):
    """`scaled_dot_product_attention`, on any device, with dropout."""

    name = "sdpa"

    def refusal(self, request: AttentionRequest) -> str | None:
        return None

    def prepare(self, visibility: Visibility) -> Visibility:
        return visibility.with_additive()

    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        qu, qv = inputs.biased_queries()
        added = visibility.additive
        for by_key in position_scores(qv, inputs.vectors, inputs.scores, qu.shape[2]):
            added = by_key if added is None else by_key + added
        if qu.is_cuda:
            with sdpa_kernel(GPU_BACKENDS):
                out = _attend(qu, inputs, added, dropout)
        else:
            out = _attend(qu, inputs, added, dropout)
        return out if visibility.blind is None else out.masked_fill(visibility.blind, 0.0)


def position_scores(
    qv_BHTK: Tensor | None, r_HPK: Tensor | None, b_HP: Tensor | None, num_queries: int
) -> Iterator[Tensor]:
    """Position scores by key: (B, H, T, S) from vectors and (1, H, T, S) from scores."""
    if r_HPK is not None:
        qv_HBTK = qv_BHTK.transpose(0, 1)
        # One product a head, as r is the same for all rows.
        by_distance = qv_HBTK.flatten(1, 2) @ r_HPK.transpose(1, 2)
        yield shift(by_distance.unflatten(1, qv_HBTK.shape[1:3])).transpose(0, 1)
    if b_HP is not None:
        yield shift(b_HP[None, :, None].expand(-1, -1, num_queries, -1))


def _attend(
    qu_BHTK: Tensor, inputs: AttentionInputs, added: Tensor | None, dropout: float
) -> Tensor:
    return F.scaled_dot_product_attention(
        qu_BHTK, inputs.k, inputs.v, attn_mask=added, dropout_p=dropout, scale=1.0
    )


ATTENTION_KERNELS.register(SdpaAttention.name)(SdpaAttention())
