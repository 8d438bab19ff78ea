"""Random weights of a small model with the published model's options."""

from __future__ import annotations

import torch

from db1.checkpoint.bundle import meta_model
from db1.model.config import ModelConfig
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

CONFIG = ModelConfig(
    num_layers=2, num_heads=2, width=32, inner_width=96, clamp_length=1024, memory_start="zeros"
)
TEXT_SIZE = 300


def draw(config: ModelConfig = CONFIG, text_size: int = TEXT_SIZE) -> dict[str, torch.Tensor]:
    vocabulary = Vocabulary(
        VocabularyConfig(
            text_size=text_size, num_discrete=text_size, discrete_ids="shared_with_text"
        )
    )
    generator = torch.Generator().manual_seed(0)
    shapes = meta_model(config, vocabulary).state_dict()
    return {n: torch.randn(t.shape, generator=generator).half() for n, t in shapes.items()}
