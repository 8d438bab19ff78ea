"""LoRA: low-rank updates of frozen matrices, trained through peft and saved alone and merged.

A matrix W (out, in) becomes W + alpha / rank * B A with B (out, rank), at first zero, and
A (rank, in). Only A and B are trained; merging adds the product to W, so that a merged model is a
model like any other.

    checkpoint/model.safetensors                 the merged weights, under db1's names
    checkpoint/adapter/adapter_model.safetensors A and B alone, in peft's layout
    checkpoint/adapter/adapter_config.json       rank, alpha, targets, in peft's layout
    checkpoint/adapter/base.json                 SHA-256 of the run's base.safetensors
    run folder/base.safetensors                  the frozen weights, written once

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from db1.checkpoint.manifest import read_json
from db1.checkpoint.run import WEIGHTS_FILE, file_sha256
from db1.checkpoint.weights import read_weights, write_weights
from db1.errors import CheckpointError, ConfigError, MissingExtra, nearest
from db1.files import atomic_write_text
from db1.json_shape import check_shape, parse_json_file
from db1.ranges import Checked, Count, Positive, Rate

FOLDER = "adapter"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
BASE_FILE = "base.safetensors"
BASE_NOTE = "base.json"
TARGETS = (
    "attention.qkv",
    "attention.output",
    "feed_forward.expand",
    "feed_forward.contract",
    "positions.projection",
)
"""Matrices of a layer that can be adapted."""
_PREFIX = "base_model.model."
_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Checked):
    """Shape of the low-rank updates.

    Args:
        rank: Columns of B and rows of A.
        alpha: The update is multiplied by alpha / rank.
        dropout: Rate on the input of A, in training.
        targets: Matrices that get an update, some of `TARGETS`.

    Raises:
        ConfigError: For values that cannot be used.
    """

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Rate = 0.0
    targets: tuple[str, ...] = TARGETS[:4]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise ConfigError(f"targets: none, expected some of {list(TARGETS)}")
        for name in self.targets:
            if name not in TARGETS:
                raise ConfigError(
                    f"targets: got {name!r}, expected some of {list(TARGETS)}"
                    f"{nearest(name, TARGETS)}"
                )

    @property
    def scale(self) -> float:
        """Factor of the product B A."""
        return self.alpha / self.rank


def add_lora(model: nn.Module, config: LoraConfig) -> nn.Module:
    """Freezes a decoder and puts low-rank updates beside its target matrices, in place.

    Args:
        model: The decoder.
        config: Rank, scale and targets.

    Returns:
        The same model; only the updates require gradients.

    Raises:
        ConfigError: The model has a target nowhere.
        MissingExtra: Without peft.
    """
    peft = _library()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in config.targets:
        if not any(name.endswith(f".{target}") for name in names):
            raise ConfigError(f"lora.targets: this model has no matrix {target!r}; leave it out")
    return peft.inject_adapter_in_model(_peft_config(config), model)


def merged_weights(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The state dict of an adapted model -> that of the plain model with the updates added.

    Args:
        weights: Names as peft gives them; an update of a matrix (M, N) is A (rank, N), B (M, rank).
        scale: Factor of the updates.

    Returns:
        db1's names; the sums are taken in float32 and given the type of the frozen matrix.
    """
    merged = {}
    for name, tensor in weights.items():
        if name.endswith((_A, _B)):
            continue
        if name.endswith(f"{_BASE}weight"):
            stem = name.removesuffix(f"{_BASE}weight")
            a, b = (weights[stem + end].detach().float() for end in (_A, _B))
            tensor = (tensor.detach().float() + scale * (b @ a)).to(tensor.dtype)
        merged[name.replace(_BASE, ".")] = tensor
    return merged


class ModelFiles:
    """A model's part of a checkpoint: all its weights, under their names."""

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes the model's state dict into a checkpoint; the first process calls it."""
        write_weights(folder / WEIGHTS_FILE, weights)

    def read(self, folder: Path, model: nn.Module) -> None:
        """Reads into `model` what `write` wrote.

        Raises:
            CheckpointError: When it does not fit.
        """
        model.load_state_dict(read_weights(folder / WEIGHTS_FILE))


class LoraFiles(ModelFiles):
    """The files of an adapted model, see the module's docstring.

    Args:
        config: Of the updates.
        run_folder: Keeps the frozen weights.
    """

    def __init__(self, config: LoraConfig, run_folder: Path) -> None:
        self._config = config
        self._base = run_folder / BASE_FILE

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        write_weights(folder / WEIGHTS_FILE, merged_weights(weights, self._config.scale))
        if not self._base.is_file():
            partial = self._base.with_name(self._base.name + ".partial")
            write_weights(partial, merged_weights(weights, 0.0))
            os.replace(partial, self._base)
        (folder / FOLDER).mkdir()
        write_weights(folder / FOLDER / ADAPTER_FILE, _adapter(weights))
        _peft_config(self._config).save_pretrained(str(folder / FOLDER))
        note = {"file": BASE_FILE, "sha256": file_sha256(self._base.parent, BASE_FILE)}
        atomic_write_text(folder / FOLDER / BASE_NOTE, json.dumps(note, indent=1))

    def read(self, folder: Path, model: nn.Module) -> None:
        note = read_json(folder / FOLDER / BASE_NOTE)
        check_shape(note, {"sha256": str}, folder / FOLDER / BASE_NOTE, CheckpointError)
        if not self._base.is_file() or file_sha256(self._base.parent, BASE_FILE) != note["sha256"]:
            raise CheckpointError(
                f"{self._base}: missing or not the frozen weights that {folder.name} was trained "
                "on; put the file back from a copy, or give this run another name"
            )
        found = read_weights(folder / FOLDER / ADAPTER_FILE)
        renamed = {_trained_name(name): tensor for name, tensor in found.items()}
        wanted = {name for name in model.state_dict() if name.endswith((_A, _B))}
        if wanted != renamed.keys():
            odd = ", ".join(sorted(wanted ^ renamed.keys())[:4])
            raise CheckpointError(f"{folder / FOLDER}: an adapter of other matrices ({odd})")
        model.load_state_dict(renamed, strict=False)


def merge_adapter(weights: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Adds an adapter that was saved alone to the weights it was trained on.

    Args:
        weights: db1's state dict of the base model.
        folder: Has adapter_config.json and adapter_model.safetensors: for each adapted matrix
            (M, N) its A (rank, N) and B (M, rank).

    Raises:
        CheckpointError: The folder holds no LoRA adapter, or one of another model.
    """
    try:
        options = parse_json_file(folder / ADAPTER_CONFIG_FILE)
        scale = options["lora_alpha"] / options["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG_FILE}: no LoRA adapter ({error}); a run with `lora` has one "
            "in checkpoints/<tag>/adapter"
        ) from error
    merged = dict(weights)
    found = read_weights(folder / ADAPTER_FILE)
    for name, a in found.items():
        if not name.endswith(".lora_A.weight"):
            continue
        target = name.removeprefix(_PREFIX).replace(".lora_A.weight", ".weight")
        b = found[name.replace(".lora_A.", ".lora_B.")]
        if target not in merged or merged[target].shape != (b.shape[0], a.shape[1]):
            raise CheckpointError(f"{folder}: its update of {target} does not fit this model")
        update = scale * (b.float() @ a.float())
        merged[target] = (merged[target].float() + update).to(merged[target].dtype)
    return merged


def _adapter(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The updates alone, under the names that peft gives them in a file."""
    return {
        _PREFIX + name.replace(".default.weight", ".weight"): tensor
        for name, tensor in weights.items()
        if name.endswith((_A, _B))
    }


def _trained_name(name: str) -> str:
    return name.removeprefix(_PREFIX).removesuffix(".weight") + ".default.weight"


def _peft_config(config: LoraConfig) -> Any:
    return _library().LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
    )


def _library() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", "lora", "LoRA fine-tuning") from error
    return peft
