"""Check that sizes can fit this machine at all, before anything is allocated.

Lower bounds only: what passes may still be too large (`db1 train --dry-run` counts exactly), what
is refused could never have worked and would end in an abort, or in the system killing processes.
"""

from __future__ import annotations

import os

import torch

from db1.errors import ConfigError
from db1.model.config import ModelConfig

TRAINING_BYTES = 16
"""Of a parameter: float32 weight, gradient and Adam's two moments."""
ACTING_BYTES = 4


def least_parameters(config: ModelConfig, vocabulary_size: int) -> int:
    """Parameters of the large matrices: attention, feed-forward and tables.

    Args:
        config: The decoder.
        vocabulary_size: Rows of the embedding table.
    """
    width = config.width
    layer = 4 * width * width + width * config.feed_forward_width
    tables = vocabulary_size + config.num_local_positions + 2 * config.num_image_positions
    return config.num_layers * layer + tables * width


def memory_here() -> int:
    """Bytes of memory that this machine has, or its first GPU where there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_room(
    config: ModelConfig,
    vocabulary_size: int,
    *,
    bytes_each: float = ACTING_BYTES,
    num_tokens: int = 0,
    length: int = 0,
) -> None:
    """Refuses a model that this machine has no memory for.

    Args:
        config: The decoder.
        vocabulary_size: Rows of the embedding table.
        bytes_each: Of a parameter; less than `TRAINING_BYTES` where processes share them.
        num_tokens: Tokens of a micro-batch; each keeps one hidden state a layer for the backward
            pass.
        length: Tokens of a sequence; the distances between them have vectors of the model's width.

    Raises:
        ConfigError: With the size that is least needed, and the size there is.
    """
    least = int(bytes_each * least_parameters(config, vocabulary_size))
    least += 2 * num_tokens * config.width * config.num_layers
    least += 4 * config.width * (length + (config.memory_length if length else 0))
    here = memory_here()
    if least > here:
        tokens = f", {num_tokens:,} tokens at once" if num_tokens else ""
        raise ConfigError(
            f"a model of width {config.width:,} with {config.num_layers:,} layers and "
            f"{vocabulary_size:,} ids{tokens} needs at least {least / 2**30:,.0f} GiB, and here "
            f"are {here / 2**30:,.0f} GiB; take smaller sizes (`db1 train CONFIG --dry-run` "
            "counts them), or a larger machine"
        )
