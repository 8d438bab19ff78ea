"""Small models and batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from db1.model.batch import Batch, ImageGroup
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL

VOCABULARY_SIZE = 40


def build_model(**options: object) -> TransformerXL:
    """A tiny float64 model in evaluation mode with weights large enough to matter."""
    sizes = {"num_layers": 2, "num_heads": 2, "width": 8, "memory_length": 6, "patch_size": 4}
    vision = {"vision_channels": 4, "vision_groups": 2, "num_image_positions": 8}
    torch.manual_seed(0)
    config = ModelConfig(**{**sizes, **vision, "init_std": 0.4, **options})
    return TransformerXL(config, VOCABULARY_SIZE, range(20, 36)).double().eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., TransformerXL]:
    """`build_model`."""
    return build_model


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Draws a batch of ids; with images, one of 2 patches opens each row."""

    def make(batch_size: int = 2, num_tokens: int = 9, images: bool = False) -> Batch:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, VOCABULARY_SIZE, (batch_size, num_tokens + 1), generator=generator)
        groups: tuple[ImageGroup, ...] = ()
        if images:
            ids[:, :2] = -1
            shape = (batch_size, 4, 8, 3)
            pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            first = torch.arange(batch_size)[:, None] * num_tokens
            groups = (ImageGroup(pixels=pixels, positions=first + torch.arange(2)),)
        return Batch(
            ids=ids[:, :-1],
            labels=ids[:, 1:].clamp(min=0),
            local_positions=torch.arange(num_tokens).expand(batch_size, -1) % 5 - 1,
            loss_mask=torch.rand(batch_size, num_tokens, generator=generator) < 0.5,
            images=groups,
        )

    return make
