"""The published checkpoint's folder: finding, reading, checking and writing it.

    db1_870task_checkpoint/
        latest                            name of the tag (where DeepSpeed wrote it)
        <tag>/mp_rank_00_model_states.pt  weights under `module`, float16, with the released names
        tokenizer/                        GPT-2's files, where somebody put them

The file is a pickle; `db1.pickles` reads it without running anything.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from db1.checkpoint.released import (
    FREQUENCIES,
    StateDict,
    frequencies,
    released_from_state_dict,
    released_names,
    state_dict_from_released,
)
from db1.checkpoint.weights import cast_weight
from db1.errors import CheckpointError
from db1.files import atomic_write_text
from db1.model.config import ModelConfig
from db1.pickles import load_pickled
from db1.tokens.vocabulary import VocabularyConfig

STATES_FILE = "mp_rank_00_model_states.pt"
LATEST_FILE = "latest"
BINS = 1_024
CLAMP_LENGTH = 1_024
_IDS, _PLACES = "word_embedding.weight", "rl_local_timestep_embedding.weight"
_EXPAND, _CONTRACT = "h.0.pos_ff.CoreNet.0.weight", "h.0.pos_ff.CoreNet.2.weight"
_BIAS, _PATCH = "h.0.dec_attn.r_w_bias", "vision_encoder.patch_embeddings.projection.weight"
_STEM = "vision_encoder.patch_embeddings.conv1.weight"
_ROWS = "vision_encoder.row_position_embeddings.weight"
_DIMENSIONS = {
    _IDS: 2, _PLACES: 2, _EXPAND: 2, _CONTRACT: 2, _BIAS: 2, _PATCH: 4, _STEM: 4, _ROWS: 2,
}  # fmt: skip
"""Dimensions of the weights that tell a model's sizes."""
_MOST_FAULTS = 6
"""Faulty weights that an error names."""


def find_states(path: Path) -> Path | None:
    """Finds the file of weights; None where `path` is nothing of the released layout.

    Args:
        path: The checkpoint folder, the folder of a tag in it, or the file itself.

    Raises:
        CheckpointError: Several tags and nothing that names one.
    """
    if path.suffix == ".pt" and path.is_file():
        return path
    if (path / STATES_FILE).is_file():
        return path / STATES_FILE
    latest = path / LATEST_FILE
    if latest.is_file():
        named = path / latest.read_text(encoding="utf-8").strip() / STATES_FILE
        if named.is_file():
            return named
    found = sorted(path.glob(f"*/{STATES_FILE}")) if path.is_dir() else []
    if len(found) > 1:
        tags = ", ".join(file.parent.name for file in found)
        raise CheckpointError(f"{path}: several tags ({tags}); name one: {found[-1].parent}")
    return found[0] if found else None


def read_released(file: Path) -> tuple[StateDict, int]:
    """Reads the weights and the optimizer steps done.

    Returns:
        Tensors by released name, without a leading `module.`, mapped and not loaded; steps, 0 where
        the file does not tell.

    Raises:
        CheckpointError: When the file cannot be read safely or holds no weights.
    """
    content = load_pickled(file)
    weights = content.get("module") if isinstance(content, dict) else None
    if not isinstance(weights, Mapping) or not weights:
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{file}: no weights under 'module', got {keys}")
    strangers = [
        name
        for name, value in weights.items()
        if not isinstance(value, Tensor) or not value.is_floating_point()
    ]
    if strangers:
        raise CheckpointError(
            f"{file}: {strangers[:5]} under 'module' are not tensors of floating-point numbers"
        )
    found = [content.get(key) for key in ("global_steps", "iteration")]
    step = max((value for value in found if isinstance(value, int)), default=0)
    named = {str(name).removeprefix("module."): value.detach() for name, value in weights.items()}
    return named, max(step, 0)


def write_released(
    folder: Path, tag: str, weights: StateDict, config: ModelConfig, step: int = 0
) -> Path:
    """Writes a checkpoint folder as DeepSpeed 0.7 wrote the published one.

    Args:
        folder: The checkpoint folder; made where it is missing.
        tag: Name of the folder inside.
        weights: db1's state dict; written as float16.
        config: Of the model.
        step: Optimizer steps done.

    Returns:
        The file of weights.

    Raises:
        CheckpointError: For numbers that float16 cannot hold, or options without a place there.
    """
    half = {name: cast_weight(name, t, torch.float16) for name, t in weights.items()}
    released = released_from_state_dict(half, config)
    states = {
        "module": OrderedDict(released),
        "buffer_names": [FREQUENCIES],
        "optimizer": None,
        "lr_scheduler": {"num_iters": 0},
        "sparse_tensor_module_names": set(),
        "skipped_steps": 0,
        "global_steps": step,
        "global_samples": 0,
        "dp_world_size": 1,
        "mp_world_size": 1,
        "ds_config": {"train_batch_size": 512, "fp16": {"enabled": True}},
        "ds_version": "0.7.0",
        "args": Namespace(n_layer=config.num_layers, n_embed=config.width, n_head=config.num_heads),
    }
    file = folder / tag / STATES_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(states, file)
    atomic_write_text(folder / LATEST_FILE, tag + "\n")
    return file


def config_of_weights(weights: Mapping[str, Tensor]) -> tuple[ModelConfig, VocabularyConfig]:
    """Reads a released model's sizes off its weights; options that leave no trace are the 1.2B's.

    Those are post-LN, `same_length` with a memory of 1,024 that starts as zeros, distances clamped
    at 1,024, and 1,024 continuous bins. Without GEGLU the activation is taken to be GELU.

    Args:
        weights: By released name.

    Raises:
        CheckpointError: When a weight that tells a size is missing.
    """
    num_layers = _check_telling_weights(weights)
    num_ids, width = weights[_IDS].shape
    inner = weights[_EXPAND].shape[0]
    model = ModelConfig(
        num_layers=num_layers,
        num_heads=weights[_BIAS].shape[0],
        width=width,
        inner_width=inner,
        clamp_length=CLAMP_LENGTH,
        memory_start="zeros",
        share_biases="r_w_bias" in weights,
        activation="geglu" if weights[_CONTRACT].shape[1] * 2 == inner else "gelu",
        tie_embeddings="lm_head.weight" not in weights,
        num_local_positions=weights[_PLACES].shape[0],
        patch_size=weights[_PATCH].shape[-1],
        image_channels=weights[_STEM].shape[1],
        num_image_positions=weights[_ROWS].shape[0],
        vision_channels=weights[_STEM].shape[0],
    )
    text_size = num_ids - BINS - 1
    if text_size < 1:
        raise CheckpointError(
            f"{_IDS} has {num_ids} rows, expected more than {BINS} bins and a separator; "
            "name the id ranges with --config FILE.yaml (its section `vocabulary`)"
        )
    vocabulary = VocabularyConfig(
        text_size=text_size,
        num_continuous_bins=BINS,
        num_discrete=min(BINS, text_size),
        discrete_ids="shared_with_text",
        continuous_decode="left_edge",
    )
    return model, vocabulary


def _check_telling_weights(weights: Mapping[str, Tensor]) -> int:
    """Checks the weights whose shapes tell a size; returns the number of layers."""
    missing = [name for name in _DIMENSIONS if name not in weights]
    if missing:
        raise CheckpointError(
            f"no weights {missing}: this is not a released DB1 model, or its names differ"
        )
    for name, dimensions in _DIMENSIONS.items():
        if weights[name].dim() != dimensions:
            raise CheckpointError(
                f"{name} has shape {tuple(weights[name].shape)}, expected {dimensions} dimensions"
            )
    layers = {int(match[1]) for name in weights if (match := re.match(r"h\.(\d+)\.", name))}
    if layers != set(range(len(layers))):
        gap = min(set(range(len(layers))) - layers)
        raise CheckpointError(
            f"weights of {len(layers)} layers, none of layer {gap} but some of {max(layers)}"
        )
    return len(layers)


def check_entries(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str
) -> None:
    """Compares names and shapes with those that a configuration asks for.

    Args:
        weights: What was read.
        expected: Tensors (meta ones do) of the right shapes.
        where: Named in errors.

    Raises:
        CheckpointError: Naming what is missing, too much or of another shape.
    """
    missing = sorted(expected.keys() - weights.keys())
    extra = sorted(weights.keys() - expected.keys())
    misshapen = [
        f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    faults = [f"{name} is missing" for name in missing]
    faults += [f"{name} is none of this model's" for name in extra] + sorted(misshapen)
    if faults:
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise CheckpointError(
            f"{where}: {len(faults)} of {len(expected)} weights do not fit the configuration: "
            f"{'; '.join(faults[:_MOST_FAULTS])}{more}"
        )


def check_repetitions(weights: Mapping[str, Tensor], config: ModelConfig, where: str) -> None:
    """Checks that what the released layout stores twice is equal, and that its constant is right.

    Raises:
        CheckpointError: Naming the first that differs.
    """
    own = state_dict_from_released(weights)
    for name in own:
        first, *others = released_names(name, config.share_biases, config.num_layers)
        for other in others:
            if not torch.equal(weights[first].nan_to_num(), weights[other].nan_to_num()):
                raise CheckpointError(
                    f"{where}: {other} differs from {first}, of which the released model makes it "
                    "a copy; db1 has one weight for both"
                )
    found = weights[FREQUENCIES].float()
    if not torch.allclose(found, frequencies(config.width), rtol=1e-3, atol=1e-6):
        raise CheckpointError(
            f"{where}: {FREQUENCIES} is not 10000 ** (-2 i / {config.width}); db1 knows no other"
        )
