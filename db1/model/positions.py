"""Position encodings: what a key's distance adds to its score.

A position encoding is an `nn.Module`, one a layer, that maps key distances to vectors r; the
attention adds (q + v) . r[distance] to each score. A new one is a class entered in
`POSITION_ENCODINGS`, built from the `ModelConfig`.

Shapes: P distances, H heads, K head width, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from db1.model.config import ModelConfig
from db1.registry import Registry

POSITION_ENCODINGS: Registry[type[nn.Module]] = Registry("position encoding")


def descending_distances(span: int, device: torch.device) -> Tensor:
    """Distances span - 1, ..., 1, 0 and one -1 behind them, float32 (span + 1,).

    The column of -1 is never seen by a query; it gives a row of scores the width that turns the
    shift of `db1.model.attention` into a plain view.
    """
    return torch.arange(span - 1, -2, -1, device=device, dtype=torch.float32)


def sinusoids(distances: Tensor, width: int, clamp_length: int | None) -> Tensor:
    """[sin | cos] of distance * 10000 ** (-2 i / width).

    Args:
        distances: float32 (P,).
        width: D, even.
        clamp_length: Largest distance told apart, or None.

    Returns:
        float32 (P, D).

    Source: Dai et al. 2019, appendix B; released DB1 model.
    """
    if clamp_length is not None:
        distances = distances.clamp(max=clamp_length)
    exponents = torch.arange(0, width, 2, device=distances.device, dtype=torch.float32) / width
    angles = distances[:, None] * (10_000.0**-exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@POSITION_ENCODINGS.register("transformer_xl")
class SinusoidPositions(nn.Module):
    """r = a bias-free projection of the sinusoids of the distance."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.projection = nn.Linear(config.width, config.width, bias=False)

    @staticmethod
    def features(config: ModelConfig, span: int, like: Tensor) -> Tensor:
        """What `forward` of every layer takes: (span + 1, D) on the device and dtype of `like`."""
        distances = descending_distances(span, like.device)
        return sinusoids(distances, config.width, config.clamp_length).to(like.dtype)

    def forward(self, features_PD: Tensor) -> Tensor:
        """(P, D) -> r (H, P, K)."""
        r_PHK = self.projection(features_PD).unflatten(-1, (self.num_heads, -1))
        return r_PHK.transpose(0, 1)


@POSITION_ENCODINGS.register("none")
class NoPositions(nn.Module):
    """No position term: order is known from the causal mask alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    @staticmethod
    def features(config: ModelConfig, span: int, like: Tensor) -> None:
        """Nothing to share."""
        return None

    def forward(self, features_PD: None) -> None:
        """No vectors."""
        return None
