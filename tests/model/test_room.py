"""Sizes that no memory holds are refused before anything is allocated."""

from __future__ import annotations

import pytest
import torch

from db1.errors import ConfigError
from db1.model import room
from db1.model.config import ModelConfig
from db1.model.room import check_room, least_parameters
from db1.model.transformer_xl import TransformerXL

SMALL = ModelConfig(num_layers=2, num_heads=2, width=32, memory_length=8, vision_channels=32)


def test_the_estimate_is_a_lower_bound() -> None:
    large = ModelConfig(width=1_024, num_layers=4)
    with torch.device("meta"):
        models = {SMALL: TransformerXL(SMALL, 300), large: TransformerXL(large, 32_000)}
    for config, model in models.items():
        count = sum(parameter.numel() for parameter in model.parameters())
        assert least_parameters(config, model.vocabulary_size) <= count
    assert least_parameters(large, 32_000) > count / 2


def test_a_model_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"width 1,048,576 .* needs at least .* GiB"):
        TransformerXL(ModelConfig(width=2**20, num_layers=2), 300)
    monkeypatch.setattr(room, "memory_here", lambda: 2**20)
    check_room(SMALL, 300)
    with pytest.raises(ConfigError, match="100,000 tokens at once"):
        check_room(SMALL, 300, num_tokens=100_000)


def test_shapes_alone_may_be_of_any_size() -> None:
    with torch.device("meta"):
        model = TransformerXL(ModelConfig(width=2**17, num_layers=2), 300)
    assert next(model.parameters()).device.type == "meta"
