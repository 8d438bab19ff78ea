"""Weights as a safetensors file, tied weights stored once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from db1.errors import CheckpointError

_ALIASES = "db1_aliases"
"""Metadata key: JSON of {name: name of the stored tensor that it is tied to}."""


def write_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Writes weights as safetensors; a tensor under several names (tied weights) is stored once.

    Args:
        path: The file.
        weights: Tensors by name.
    """
    stored: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    first_name: dict[tuple[Any, ...], str] = {}
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first_name:
            aliases[name] = first_name[place]
            continue
        first_name[place] = name
        stored[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    save_file(stored, path, metadata={"format": "pt", _ALIASES: json.dumps(aliases)})


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads what `write_weights` wrote (or any safetensors file) to CPU memory.

    Raises:
        CheckpointError: When the file is missing or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    for alias, name in json.loads(metadata.get(_ALIASES, "{}")).items():
        weights[alias] = weights[name]
    return weights
