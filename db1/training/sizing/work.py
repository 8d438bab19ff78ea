"""Floating point operations of a training, from the sizes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from db1.model.config import ModelConfig

PARTS = {
    "token embedding": r"^embedding\.token\.",
    "vision": r"^embedding\.vision\.",
    "number patches": r"^embedding\.numbers\.",
    "local positions": r"^embedding\.local_position\.",
    "attention": r"\.attention\.(qkv|output)\.",
    "position projection": r"\.attention\.positions\.",
    "feed-forward": r"\.feed_forward\.",
    "norms and biases": r"(^|[._])bias$|norm\.weight$|\.residual\.[03]\.weight$",
    "output": r"^output\.",
}
"""Parts by a pattern of their weights' names; norms and biases belong to no other part."""


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Parameters of each part, shared ones once; `other` appears where no pattern matches.

    Args:
        model: The decoder; its device plays no part.
    """
    counts = dict.fromkeys(PARTS, 0)
    first = "norms and biases"
    patterns = {first: PARTS[first]} | PARTS
    for name, parameter in model.named_parameters():
        part = next((part for part, rule in patterns.items() if re.search(rule, name)), "other")
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


@dataclass(frozen=True, kw_only=True)
class Work:
    """Floating point operations (a multiplication and an addition are two).

    Forward, a token of a sequence takes 2 operations for each weight of the layers' matrices, and
    6 D for each key it sees in each layer (content, position and value products; 4 D without
    position vectors); a token to be predicted takes 2 D V more. Training takes three times that,
    and a fourth forward with activation checkpointing, which only `hardware` has.

    Args:
        layers: A token's, training, matrices of the layers.
        attention: A token's, training, products with keys, positions and values.
        output: A predicted token's, training, scores of all ids.
        recomputed: A token's, of activation checkpointing.
        tokens: Tokens of the whole training.

    Source: Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022 (PaLM), appendix B, which counts
    keys that a query does not see, too.
    """

    layers: float
    attention: float
    output: float
    recomputed: float
    tokens: int

    @property
    def per_token(self) -> float:
        """Of a token that is predicted."""
        return self.layers + self.attention + self.output

    @property
    def model(self) -> float:
        """Of the whole training, were all tokens predicted."""
        return self.per_token * self.tokens

    @property
    def hardware(self) -> float:
        """`model` and what is computed twice."""
        return (self.per_token + self.recomputed) * self.tokens


def work(
    config: ModelConfig,
    parts: Mapping[str, int],
    vocabulary_size: int,
    num_tokens: int,
    total_tokens: int,
) -> Work:
    """Counts floating point operations, see `Work`.

    Args:
        config: The model's.
        parts: From `parameters_by_part`.
        vocabulary_size: V.
        num_tokens: Tokens of a sequence.
        total_tokens: Of the training.
    """
    products = 6 if config.position_encoding == "transformer_xl" else 4
    matrices = 2.0 * (parts["attention"] + parts["feed-forward"])
    seen = mean_keys(num_tokens, config.attention_span)
    attention = products * config.num_layers * config.width * seen
    return Work(
        layers=3 * matrices,
        attention=3 * attention,
        output=3 * 2.0 * config.width * vocabulary_size,
        recomputed=matrices + attention if config.activation_checkpointing else 0.0,
        tokens=total_tokens,
    )


def mean_keys(num_tokens: int, span: int | None) -> float:
    """Keys that a token of a sequence sees, on average: itself and those before it in the span.

    Args:
        num_tokens: Of the sequence.
        span: The most keys; None: all.
    """
    full = num_tokens if span is None else min(span, num_tokens)
    return (full * (full + 1) / 2 + (num_tokens - full) * full) / num_tokens
