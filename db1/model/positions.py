"""Position encodings: how the distance between a query and a key enters its score.

A position encoding is an `nn.Module`, one a layer, that turns distances into `PositionTerms`. These
enter the score of a query at distance d from a key in up to three ways:

    vectors    (q + v) . r[d] is added      v: the position bias
    scores     b[d] is added
    rotations  (q + u) and k are rotated by c[d of the query] and c[d of the key], counted from the
               last key, so that their product depends on the difference: the distance

All three depend on distances alone and leave keys and values as they are, so a memory caches keys
that are a function of the hidden state only. A new encoding is a class entered in
`POSITION_ENCODINGS`; whatever it adds may have weights.

Shapes: P distances, H heads, K head width, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from db1.errors import ConfigError
from db1.registry import Registry

POSITION_ENCODINGS: Registry[type[PositionEncoding]] = Registry("position encoding")


class PositionConfig(Protocol):
    """Sizes and options that encodings take; `ModelConfig` has them."""

    @property
    def width(self) -> int:
        """D."""
        ...

    @property
    def num_heads(self) -> int:
        """H."""
        ...

    @property
    def head_dim(self) -> int:
        """K."""
        ...

    @property
    def clamp_length(self) -> int | None:
        """Largest distance told apart; None: all are."""
        ...

    @property
    def position_encoding(self) -> str:
        """Name in `POSITION_ENCODINGS`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PositionTerms:
    """Position terms of one layer, by descending distance: span - 1, ..., 1, 0, -1.

    Args:
        vectors: r (H, P, K).
        scores: b (H, P).
        rotations: c (P, K / 2), complex numbers of absolute value 1.
    """

    vectors: Tensor | None = None
    scores: Tensor | None = None
    rotations: Tensor | None = None

    def last(self, num_distances: int) -> PositionTerms:
        """The terms of the smallest distances, views."""
        vectors, scores, rotations = self.vectors, self.scores, self.rotations
        return PositionTerms(
            vectors=None if vectors is None else vectors[:, -num_distances:],
            scores=None if scores is None else scores[:, -num_distances:],
            rotations=None if rotations is None else rotations[-num_distances:],
        )


class PositionEncoding(nn.Module):
    """Base of the encodings; adds nothing.

    Args:
        config: Sizes and options.
    """

    uses_position_bias: ClassVar[bool] = False
    """True when the model has a position bias v for it."""

    def __init__(self, config: PositionConfig) -> None:
        super().__init__()

    @classmethod
    def check(cls, config: PositionConfig) -> None:
        """Raises ConfigError for sizes it cannot have and options that mean nothing to it."""
        if config.clamp_length is not None:
            raise ConfigError(
                f"model.clamp_length: got {config.clamp_length}, but position encoding "
                f"{config.position_encoding!r} has no distance to clamp; set clamp_length: null"
            )

    @staticmethod
    def features(config: PositionConfig, distances: Tensor) -> Tensor | None:
        """Features that the layers share, from distances (P,) in the type to compute in."""
        return None

    def forward(self, features: Tensor | None, dtype: torch.dtype) -> PositionTerms:
        """One layer's terms from `features`, for scores of type `dtype`; see `PositionTerms`.

        Vectors (H, P, K), scores (H, P) and rotations (P, K / 2), each or none.
        """
        return PositionTerms()


def descending_distances(span: int, like: Tensor) -> Tensor:
    """Distances span - 1, ..., 1, 0 and one -1 after them, (span + 1,).

    The column of -1 is never seen by a query; it gives a row of scores the width that turns the
    shift of `db1.model.attention_kernels` into a plain view.

    Args:
        span: Number of keys.
        like: Gives the device, and the type where it is finer than float32.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.arange(span - 1, -2, -1, device=like.device, dtype=dtype)


def clamped(distances: Tensor, clamp_length: int | None) -> Tensor:
    """Distances (P,) up to `clamp_length`, which stands for all beyond it; None: as they are."""
    return distances if clamp_length is None else distances.clamp(max=clamp_length)


def frequencies(width: int, like: Tensor) -> Tensor:
    """10000 ** (-2 i / width), (width / 2,); width is even.

    Source: Vaswani et al. 2017, section 3.5.
    """
    exponents = torch.arange(0, width, 2, device=like.device, dtype=like.dtype) / width
    return 10_000.0**-exponents


def sinusoids(distances: Tensor, width: int, clamp_length: int | None) -> Tensor:
    """[sin | cos] of distance * 10000 ** (-2 i / width).

    Args:
        distances: Float (P,).
        width: D, even.
        clamp_length: Largest distance told apart, or None.

    Returns:
        (P, D), of the distances' type.

    Source: Dai et al. 2019, appendix B; released DB1 model.
    """
    angles = clamped(distances, clamp_length)[:, None] * frequencies(width, distances)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def alibi_slopes(num_heads: int) -> list[float]:
    """Slopes by head, subtracted for each step of distance: 2 ** (-8 h / n) for h = 1..n.

    n is the number of heads where that is a power of two. Otherwise the slopes of the next lower
    power come first, then every other one of the next higher power's.

    Source: Press et al. 2022, "Train Short, Test Long", section 3 and its reference code.
    """
    lower = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * h / lower) for h in range(1, lower + 1)]
    between = [2.0 ** (-4.0 * h / lower) for h in range(1, 2 * lower + 1, 2)]
    return slopes + between[: num_heads - lower]


def apply_rotary(x_BHSK: Tensor, rotations_SK: Tensor) -> Tensor:
    """Rotates neighbouring pairs (x[2 i], x[2 i + 1]) by complex numbers (S, K / 2).

    Source: Su et al. 2021, "RoFormer", equation 34.
    """
    pairs = x_BHSK.to(rotations_SK.real.dtype).unflatten(-1, (-1, 2))
    return (
        torch.view_as_real(torch.view_as_complex(pairs) * rotations_SK).flatten(-2).type_as(x_BHSK)
    )


@POSITION_ENCODINGS.register("transformer_xl")
class SinusoidPositions(PositionEncoding):
    """Vectors: a bias-free projection of the sinusoids of the distance.

    Source: Dai et al. 2019, section 3.3.
    """

    uses_position_bias = True

    def __init__(self, config: PositionConfig) -> None:
        super().__init__(config)
        self.num_heads = config.num_heads
        self.projection = nn.Linear(config.width, config.width, bias=False)

    @classmethod
    def check(cls, config: PositionConfig) -> None:
        if config.width % 2:
            raise ConfigError(
                f"model.width {config.width}: sinusoids come in pairs, expected an even width"
            )

    @staticmethod
    def features(config: PositionConfig, distances: Tensor) -> Tensor:
        """(P, D)."""
        return sinusoids(distances, config.width, config.clamp_length)

    def forward(self, features: Tensor, dtype: torch.dtype) -> PositionTerms:
        """r (H, P, K)."""
        r_PHK = self.projection(features.to(dtype)).unflatten(-1, (self.num_heads, -1))
        return PositionTerms(vectors=r_PHK.transpose(0, 1))


@POSITION_ENCODINGS.register("rotary")
class RotaryPositions(PositionEncoding):
    """Rotations: queries and keys by angles growing with the place, pair i by 10000 ** (-2 i / K).

    Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """

    @classmethod
    def check(cls, config: PositionConfig) -> None:
        super().check(config)
        if config.head_dim % 2:
            raise ConfigError(
                f"model.width {config.width} / model.num_heads {config.num_heads} = "
                f"{config.head_dim}: rotary rotates pairs, expected an even head width"
            )

    @staticmethod
    def features(config: PositionConfig, distances: Tensor) -> Tensor:
        """Complex (P, K / 2)."""
        angles = -distances[:, None] * frequencies(config.head_dim, distances)
        return torch.polar(torch.ones_like(angles), angles)

    def forward(self, features: Tensor, dtype: torch.dtype) -> PositionTerms:
        """Rotations (P, K / 2), the same in every layer."""
        return PositionTerms(rotations=features)


@POSITION_ENCODINGS.register("alibi")
class AlibiPositions(PositionEncoding):
    """Scores: minus a head's slope times the distance, up to `clamp_length`.

    Source: Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases".
    """

    @classmethod
    def check(cls, config: PositionConfig) -> None:
        """Takes every size and option."""

    @staticmethod
    def features(config: PositionConfig, distances: Tensor) -> Tensor:
        """(H, P)."""
        slopes = distances.new_tensor(alibi_slopes(config.num_heads))
        return -slopes[:, None] * clamped(distances, config.clamp_length)

    def forward(self, features: Tensor, dtype: torch.dtype) -> PositionTerms:
        """Scores (H, P), the same in every layer."""
        return PositionTerms(scores=features.to(dtype))


@POSITION_ENCODINGS.register("none")
class NoPositions(PositionEncoding):
    """No position term: order is known from the causal mask alone.

    Source: Kazemnejad et al. 2023, "The Impact of Positional Encoding on Length Generalization".
    """
