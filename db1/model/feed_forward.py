"""The feed-forward sub-layer and its activations."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from db1.model.config import ModelConfig


def geglu(x: Tensor) -> Tensor:
    """First half times the exact GELU of the second: (..., 2 * F) -> (..., F).

    Source: Shazeer 2020, "GLU Variants Improve Transformer"; released DB1 model (order of halves).
    """
    value, gate = x.chunk(2, dim=-1)
    return value * F.gelu(gate)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "geglu": geglu,
    "gelu": F.gelu,
    "relu": F.relu,
}


class FeedForward(nn.Module):
    """(..., D) -> (..., D) through the inner width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.feed_forward_width
        self.activation = ACTIVATIONS[config.activation]
        self.expand = nn.Linear(config.width, inner)
        self.contract = nn.Linear(
            inner // 2 if config.activation == "geglu" else inner, config.width
        )

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        return self.contract(self.activation(self.expand(x)))
