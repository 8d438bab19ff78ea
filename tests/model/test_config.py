"""Sizes that no model can have are refused, by name."""

from __future__ import annotations

import pytest

from db1.errors import ConfigError
from db1.model.config import ModelConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"num_heads": 3, "width": 8}, "multiple"),
        ({"num_heads": 3, "width": 9}, "even"),
        ({"inner_width": 7}, "even number"),
        ({"inner_width": 0}, "inner_width"),
        ({"memory_length": -1}, "memory_length"),
        ({"memory_length": 0}, "same_length"),
        ({"clamp_length": 0}, "clamp_length"),
        ({"normalization": "middle"}, "'pre'"),
        ({"activation": "swish"}, "geglu"),
        ({"deepnorm": True, "normalization": "pre"}, "deepnorm"),
        ({"attention_dropout": 1.0}, "attention_dropout"),
        ({"vision_channels": 40}, "vision_groups"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ({"memory_start": "full"}, "memory_start"),
        ({"bin_init": "flat"}, "bin_init"),
    ],
)
def test_bad_sizes_raise(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**options)


def test_odd_inner_width_is_fine_without_geglu() -> None:
    assert ModelConfig(inner_width=7, activation="relu").feed_forward_width == 7


def test_derived_sizes() -> None:
    config = ModelConfig(width=48, num_heads=4, memory_length=9)
    assert (config.head_dim, config.feed_forward_width, config.attention_span) == (12, 192, 9)
    free = ModelConfig(same_length=False)
    assert free.attention_span is None and free.residual_scale == 1.0


def test_unknown_position_encoding_names_the_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'transformer_xl'"):
        ModelConfig(position_encoding="transformer_x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position_encoding": "rotary", "clamp_length": 4}, "'rotary' has no distance to clamp"),
        ({"position_encoding": "none", "clamp_length": 4}, "'none' has no distance to clamp"),
        ({"position_encoding": "rotary", "width": 9, "num_heads": 3}, "even head width"),
    ],
)
def test_options_that_mean_nothing_to_an_encoding_raise(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**options)


@pytest.mark.parametrize("encoding", ["alibi", "none"])
def test_odd_width_is_fine_without_pairs(encoding: str) -> None:
    assert ModelConfig(position_encoding=encoding, width=9, num_heads=3).head_dim == 3
