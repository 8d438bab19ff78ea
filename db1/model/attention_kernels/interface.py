"""Interface of attention kernels, and their registry.

All compute, for query i of a row and the keys j that it sees,

    softmax_j((s q + u) . k_j + (s q + v) . r[d] + b[d]) value_j      d = M + i - j

with u and v scaled by s, too, and position vectors r or scores b or neither. Both come in
descending distance with one for distance -1 at the end, so that the position scores (T, S + 1),
laid out flat, hold the scores by key in order: skip T - 1 numbers and cut rows of S. For T = 2,
M = 1, S = 3, written as distances:

    2  1  0 -1 |  2  1  0 -1      ->      1  0 -1 |  2  1  0

The shift of Transformer-XL is thus a view of contiguous memory, and so is its gradient. A query
that sees no key (padding of a ragged row) gives 0.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
P = S + 1 distances.

Source: Dai et al. 2019, section 3.3 and appendix B.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from db1.model.visibility import Visibility
from db1.registry import Registry

ATTENTION_KERNELS: Registry[AttentionKernel] = Registry("attention kernel")


@dataclass(frozen=True, kw_only=True)
class AttentionInputs:
    """One layer's operands.

    Args:
        q: Queries (B, H, T, K), neither scaled nor biased.
        k: Keys (B, H, S, K).
        v: Values (B, H, S, K).
        scale: Factor s of the queries and of the biases.
        content_bias: u (H, K); None: nothing is added.
        position_bias: v (H, K); None: nothing is added.
        vectors: r (H, P, K) in descending distance, or None.
        scores: b (H, P) in descending distance, or None.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float = 1.0
    content_bias: Tensor | None = None
    position_bias: Tensor | None = None
    vectors: Tensor | None = None
    scores: Tensor | None = None

    def biased_queries(self) -> tuple[Tensor, Tensor | None]:
        """Scaled queries for the keys and, with position vectors, for these; each (B, H, T, K)."""
        q = self.q if self.scale == 1.0 else self.q * self.scale
        qu = self._biased(q, self.content_bias)
        return qu, None if self.vectors is None else self._biased(q, self.position_bias)

    def _biased(self, q: Tensor, bias_HK: Tensor | None) -> Tensor:
        return q if bias_HK is None else q + (bias_HK * self.scale)[:, None]


@dataclass(frozen=True, kw_only=True)
class AttentionRequest:
    """Description of a forward pass, from which a kernel decides whether it can serve its layers.

    Args:
        device: Where the operands are.
        dtype: Their type.
        head_dim: K.
        num_queries: T.
        dropout: Rate on the attention weights; 0 outside of training.
        needs_grad: True when gradients will be asked for.
    """

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    num_queries: int
    dropout: float
    needs_grad: bool


class AttentionKernel(ABC):
    """One way to compute attention; entered in `ATTENTION_KERNELS` under its name.

    Attributes:
        name: In the registry.
        extra_distances: Position terms that it takes beyond one for each key (distance -1).
    """

    name: str
    extra_distances: int = 1

    @abstractmethod
    def refusal(self, request: AttentionRequest) -> str | None:
        """Reason why the kernel cannot serve the request; None when it can."""

    def prepare(self, visibility: Visibility) -> Visibility:
        """The visibility with the tensors that the kernel reads, made once before the layers."""
        return visibility

    @abstractmethod
    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        """Attends; `visibility` went through `prepare`.

        Returns:
            (B, H, T, K), of the queries' type.
        """


def shift(scores_TP: Tensor) -> Tensor:
    """Position scores by distance (..., T, P) -> by key (..., T, S), a view."""
    num_queries, num_keys = scores_TP.shape[-2], scores_TP.shape[-1] - 1
    skipped = num_queries - 1
    by_key = scores_TP.flatten(-2)[..., skipped : skipped + num_queries * num_keys]
    return by_key.unflatten(-1, (num_queries, num_keys))
