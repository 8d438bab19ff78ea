"""`torch.compile` for the decoder's layers.

Each layer is compiled by itself, in place: names of weights stay, what comes before and after the
layers (images, the loss under its mask) keeps its changing shapes, and all layers share one
compilation.
"""

from __future__ import annotations

import shutil
from typing import Any

from torch import nn

from db1.errors import ConfigError
from db1.model.transformer_xl import DecoderLayer, TransformerXL

_COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: nn.Module, device_type: str, **options: Any) -> None:
    """Lets the layers of a decoder compile themselves at their first call.

    Args:
        model: A `TransformerXL`, wrapped or not; where an engine puts hooks on it, after it did.
        device_type: `cpu` or `cuda`.
        options: Of `torch.compile`.

    Raises:
        ConfigError: When there is no C++ compiler, without which torch fails at the first step.
    """
    if device_type == "cpu" and not any(shutil.which(name) for name in _COMPILERS):
        raise ConfigError(
            f"training.compile needs a C++ compiler on the CPU, found none of {list(_COMPILERS)}; "
            "run: apt-get install g++, or set training.compile=false"
        )
    for module in model.modules():
        if isinstance(module, TransformerXL):
            module.is_compiled = True
        if isinstance(module, DecoderLayer):
            module.compile(**options)
