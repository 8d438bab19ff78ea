"""A tiny random model in float64, so that only a wrong computation can change a choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

TEXT = "go to the red ball and pick up the blue key; open the grey door behind you " * 8


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train([TEXT], 300)


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(VocabularyConfig(text_size=300, num_continuous_bins=64, num_discrete=32))


@pytest.fixture(scope="session")
def make_model(vocabulary: Vocabulary) -> Callable[..., TransformerXL]:
    def make(**overrides: object) -> TransformerXL:
        torch.manual_seed(0)
        sizes = {"num_layers": 2, "num_heads": 2, "width": 32, "init_std": 0.3}
        config = ModelConfig(**{**sizes, "same_length": False, "vision_groups": 4, **overrides})
        return TransformerXL(config, vocabulary.size, vocabulary.bin_range()).double().eval()

    return make
