"""Weights as a safetensors file, tied weights stored once, written one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from db1.errors import CheckpointError
from db1.json_shape import check_shape, parse_json

_ALIASES = "db1_aliases"
"""Metadata key: JSON of {name: name of the stored tensor that it is tied to}."""
_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

BytesWritten = Callable[[int, int], None]
"""Called with (bytes written so far, bytes in all)."""


def write_weights(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    *,
    dtype: torch.dtype | None = None,
    progress: BytesWritten | None = None,
) -> None:
    """Writes weights as safetensors; a tensor under several names (tied weights) is stored once.

    Tensors are cast and copied one after the other, so that this needs memory for one of them.

    Args:
        path: The file.
        weights: Tensors by name, on any device.
        dtype: Type that floating-point tensors are stored in; None: their own.
        progress: Told how far the writing is.

    Raises:
        CheckpointError: For a type that the format has no name for, or finite numbers that are
            infinite in `dtype`.
        OSError: When the disk takes no more.

    Source: safetensors' README, section "Format".
    """
    stored, aliases = _distinct(weights)
    # Wide types first: then every tensor is aligned. Names: equal weights give equal files.
    names = sorted(stored, key=lambda name: (-_stored_type(stored[name], dtype).itemsize, name))
    metadata = {"format": "pt", _ALIASES: json.dumps(aliases)}
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        kind = _stored_type(stored[name], dtype)
        if kind not in _TYPE_NAMES:
            raise CheckpointError(f"weight {name!r}: {kind} cannot be stored as safetensors")
        start, end = end, end + stored[name].numel() * kind.itemsize
        header[name] = {
            "dtype": _TYPE_NAMES[kind],
            "shape": list(stored[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        written = 0
        for name in names:
            content = _content(name, stored[name], dtype)
            file.write(content)
            written += len(content)
            if progress is not None:
                progress(written, end)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Maps what `write_weights` wrote (or any safetensors file) into memory.

    The tensors are views of the file, read when they are used; writing to them leaves it alone.

    Raises:
        CheckpointError: When the file is missing or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error
    for alias, name in _aliases(metadata, path).items():
        if name not in weights:
            raise CheckpointError(f"{path}: {alias!r} stands for {name!r}, which is not there")
        weights[alias] = weights[name]
    return weights


def _aliases(metadata: Mapping[str, str], path: Path) -> dict[str, str]:
    """Second names of tensors, by what they stand for."""
    try:
        found = parse_json(metadata.get(_ALIASES, "{}"))
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata is not JSON: {error}") from None
    check_shape(found, {str: str}, path, CheckpointError, "metadata")
    return dict(found)


def _distinct(
    weights: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors by their first name, and first names by the others."""
    stored: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    first_name: dict[tuple[Any, ...], str] = {}
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first_name:
            aliases[name] = first_name[place]
            continue
        first_name[place] = name
        stored[name] = tensor.detach()
    return stored, aliases


def _stored_type(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return tensor.dtype if dtype is None or not tensor.is_floating_point() else dtype


def _content(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> memoryview:
    """Its bytes, row-major and little-endian."""
    cast = cast_weight(name, tensor.cpu(), dtype).contiguous()
    return memoryview(cast.reshape(-1).view(torch.uint8).numpy())


def cast_weight(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in another floating-point type; None: as it is.

    Raises:
        CheckpointError: When finite numbers are infinite in that type.
    """
    cast = tensor.to(_stored_type(tensor, dtype))
    narrower = torch.finfo(cast.dtype).max < torch.finfo(tensor.dtype).max if dtype else False
    if narrower and not cast.isfinite().all() and tensor.isfinite().all():
        raise CheckpointError(
            f"weight {name!r}: holds {float(tensor.abs().max()):.4g}, above the largest {dtype} "
            f"({torch.finfo(cast.dtype).max:.4g}); keep another type"
        )
    return cast
