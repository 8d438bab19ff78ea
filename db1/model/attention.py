"""Multi-head attention with content bias u, position bias v and an optional memory.

Scores are ((q + u) . k + (q + v) . r[distance]) / sqrt(K) with the position encoding of
Transformer-XL; `db1.model.positions` has the others.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
D width.

Source: Dai et al. 2019, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from db1.errors import DataError
from db1.model.attention_kernels import AttentionInputs
from db1.model.attention_plan import AttentionPlan
from db1.model.config import ModelConfig
from db1.model.positions import POSITION_ENCODINGS, PositionTerms, apply_rotary

ExtendKeys = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Puts the memory's keys and values (B, H, M, K) before those of the new tokens."""

Biases = tuple[Tensor, Tensor | None]
"""Content bias u and position bias v, each (H, K); v is None where the encoding does not use it."""


class QueryKeyValue(nn.Linear):
    """One matrix for queries, keys and values, (3 * D, D)."""

    def forward(self, x_BTD: Tensor, at_N: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, 3 * D), or the parts of it that single queries need.

        Args:
            x_BTD: Inputs.
            at_N: int64, the places of the queries in the flattened (B * T) tokens; None: all.

        Returns:
            Queries, keys and values; with `at_N`, queries (N, D) there, and all keys and values
            (B, T, 2 * D).
        """
        if at_N is None:
            return super().forward(x_BTD)
        width = self.in_features
        queries_ND = F.linear(x_BTD.flatten(0, 1).index_select(0, at_N), self.weight[:width])
        return queries_ND, F.linear(x_BTD, self.weight[width:])


class RelativeAttention(nn.Module):
    """The attention sub-layer.

    Args:
        config: Width, heads, position encoding, and whether u and v are this layer's own.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = config.head_dim**-0.5
        self.dropout = config.attention_dropout
        self.qkv = QueryKeyValue(config.width, 3 * config.width, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)
        self.positions = POSITION_ENCODINGS[config.position_encoding](config)
        if not config.share_biases:
            self.content_bias, self.position_bias = attention_biases(config)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> queries, keys and values, each (B, H, T, K), views."""
        qkv = self.qkv(x_BTD).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)
        return q, k, v

    def project_at(self, x_BTD: Tensor, at_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `project`, with queries of zero everywhere but at some tokens.

        Args:
            x_BTD: Inputs.
            at_N: int64, these tokens' places in the flattened (B * T) tokens.

        Returns:
            q, k and v, (B, H, T, K).
        """
        if not isinstance(self.qkv, QueryKeyValue):  # an adapter, which sees all of its input
            return self.project(x_BTD)
        queries_ND, kv = self.qkv(x_BTD, at_N)
        q_BTD = _placed(queries_ND, at_N, x_BTD.shape[:2])
        k, v = kv.unflatten(-1, (2, self.num_heads, -1)).transpose(1, 3).unbind(2)
        return q_BTD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2), k, v

    def forward(
        self,
        x_BTD: Tensor,
        terms: PositionTerms,
        biases: Biases | None,
        plan: AttentionPlan,
        extend: ExtendKeys | None = None,
        at_N: Tensor | None = None,
    ) -> Tensor:
        """Attends from x to itself and to the memory.

        Args:
            x_BTD: Input of the sub-layer.
            terms: What the position encoding adds.
            biases: Shared u and v, each (H, K); None: the layer's own.
            plan: Which keys are seen, and the kernel.
            extend: Puts the memory's keys and values before the new ones; None: no memory.
            at_N: int64, places in the flattened (B * T) tokens of those that are wanted; None: all.

        Returns:
            (B, T, D), or (N, D) with `at_N`.
        """
        u, v = biases if biases is not None else (self.content_bias, self.position_bias)
        q, keys, values = self.project(x_BTD) if at_N is None else self.project_at(x_BTD, at_N)
        if extend is not None:
            keys, values = extend(keys, values)
        _check_distances(terms, keys.shape[2], plan.kernel.extra_distances)
        scale = self.scale
        if terms.rotations is not None:
            q = apply_rotary(
                q * scale + (u * scale)[:, None], terms.rotations[-(q.shape[2] + 1) : -1]
            )
            keys = apply_rotary(keys, terms.rotations[:-1])
            u, scale = None, 1.0
        inputs = AttentionInputs(
            q=q,
            k=keys,
            v=values,
            scale=scale,
            content_bias=u,
            position_bias=v,
            vectors=terms.vectors,
            scores=terms.scores,
        )
        dropout = self.dropout if self.training else 0.0
        mixed = plan.kernel(inputs, plan.visibility, dropout)
        mixed_BTD = mixed.transpose(1, 2).flatten(2)
        if at_N is not None:
            mixed_BTD = mixed_BTD.flatten(0, 1).index_select(0, at_N)
        return self.output(mixed_BTD)


def _placed(x_ND: Tensor, at_N: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (N, D) at their places in (B, T, D), zeros elsewhere."""
    batch_size, length = size
    x_BTD = x_ND.new_zeros(batch_size * length, x_ND.shape[1]).index_copy(0, at_N, x_ND)
    return x_BTD.unflatten(0, (batch_size, length))


def _check_distances(terms: PositionTerms, num_keys: int, extra: int) -> None:
    for x, dim in ((terms.vectors, 1), (terms.scores, 1), (terms.rotations, 0)):
        if x is not None and x.shape[dim] != num_keys + extra:
            raise DataError(
                f"position terms of {x.shape[dim] - extra} distances for {num_keys} keys; make "
                f"them with position_terms({num_keys})"
            )


def attention_biases(config: ModelConfig) -> tuple[nn.Parameter, nn.Parameter | None]:
    """New u and v, zeros."""
    shape = (config.num_heads, config.head_dim)
    has_position_bias = POSITION_ENCODINGS[config.position_encoding].uses_position_bias
    v = nn.Parameter(torch.zeros(shape)) if has_position_bias else None
    return nn.Parameter(torch.zeros(shape)), v
