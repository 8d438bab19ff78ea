"""The released DB1 model's names and options <-> db1's.

    released                                     db1
    word_embedding.weight                        embedding.token.weight
    rl_local_timestep_embedding.weight           embedding.local_position.weight
    r_w_bias, r_r_bias                           content_bias, position_bias
    vision_encoder.patch_embeddings.conv1.*      embedding.vision.patches.stem.*
    h.<i>.dec_attn.qkv_net.weight                layers.<i>.attention.qkv.weight
    h.<i>.pos_ff.CoreNet.0.*                     layers.<i>.feed_forward.expand.*
    lm_head.weight                               output.weight                      (untied only)

`ic_encoder.*` repeats `vision_encoder.*`, each layer repeats biases that are shared, and
`pos_emb.inv_freq` is a constant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from db1.errors import CheckpointError, nearest
from db1.model.config import ModelConfig
from db1.tokens.vocabulary import VocabularyConfig

StateDict = dict[str, Tensor]
FREQUENCIES = "pos_emb.inv_freq"
_TOP = {
    "word_embedding.weight": "embedding.token.weight",
    "rl_local_timestep_embedding.weight": "embedding.local_position.weight",
    "r_w_bias": "content_bias",
    "r_r_bias": "position_bias",
    "lm_head.weight": "output.weight",
}
_VISION = {
    "patch_embeddings.conv1": "patches.stem",
    "patch_embeddings.residual_path": "patches.residual",
    "patch_embeddings.projection": "patches.projection",
    "row_position_embeddings": "row_position",
    "col_position_embeddings": "column_position",
}
_LAYER = {
    "dec_attn.qkv_net": "attention.qkv",
    "dec_attn.o_net": "attention.output",
    "dec_attn.r_net": "attention.positions.projection",
    "dec_attn.layer_norm": "attention_norm",
    "dec_attn.r_w_bias": "attention.content_bias",
    "dec_attn.r_r_bias": "attention.position_bias",
    "pos_ff.CoreNet.0": "feed_forward.expand",
    "pos_ff.CoreNet.2": "feed_forward.contract",
    "pos_ff.layer_norm": "feed_forward_norm",
}
_REQUIRED = (
    "n_embed",
    "n_layer",
    "n_head",
    "mem_len",
    "text_vocab_size",
    "num_continuous_bin",
    "num_discrete_values",
)


def config_from_released(released: Mapping[str, Any]) -> tuple[ModelConfig, VocabularyConfig]:
    """Reads the released model's arguments.

    `mem_len` null means no memory and no limit of the attention span, `n_inner` null four times
    the width. Distances are clamped at `n_position`, where no `clamp_len` says otherwise (null or
    below 1: no clamping). DeepNorm has no effect with pre-LN there.

    Args:
        released: Its argument names and values; unknown ones are left alone.

    Raises:
        CheckpointError: When a size is missing.
        ConfigError: For values that no model can have.
    """
    missing = [name for name in _REQUIRED if name not in released]
    if missing:
        raise CheckpointError(f"released model config lacks {missing}, got {sorted(released)}")
    pre = bool(released.get("pre_lnorm", False))
    memory_length = released["mem_len"] or 0
    clamp_length = released.get("clamp_len", released.get("n_position")) or 0
    model = ModelConfig(
        num_layers=released["n_layer"],
        num_heads=released["n_head"],
        width=released["n_embed"],
        inner_width=released.get("n_inner"),
        memory_length=memory_length,
        same_length=bool(released.get("same_length", False)) and memory_length > 0,
        clamp_length=clamp_length if clamp_length > 0 else None,
        memory_start="zeros",
        share_biases=not released.get("untie_r", False),
        normalization="pre" if pre else "post",
        deepnorm=bool(released.get("use_deepnorm", False)) and not pre,
        layer_norm_epsilon=released.get("layer_norm_epsilon", 1e-5),
        activation=released.get("activation_fn", "geglu"),
        tie_embeddings=bool(released.get("share_input_output_embedding", True)),
        embedding_dropout=released.get("embd_pdrop", 0.0),
        residual_dropout=released.get("drop", 0.0),
        attention_dropout=released.get("dropattn", 0.0),
        patch_size=released.get("vision_patch_size", 16),
        image_channels=released.get("vision_num_input_channels", 3),
        num_image_positions=released.get("vision_position_vocab_size", 128),
    )
    return model, _vocabulary(released)


def state_dict_from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the released model's weights.

    Args:
        released: Tensors by released name, all with or all without a leading `module.`.

    Returns:
        Tensors by db1's name.

    Raises:
        CheckpointError: For a name that the released model does not have.
    """
    names = {name.removeprefix("module."): tensor for name, tensor in released.items()}
    shared = "r_w_bias" in names
    renamed = {}
    for name, tensor in names.items():
        new = _rename(name, shared)
        if new is not None:
            renamed[new] = tensor
    return renamed


def released_names(name: str, share_biases: bool, num_layers: int) -> list[str]:
    """Returns every name under which the released model stores a weight of db1, its own first.

    Args:
        name: db1's name.
        share_biases: Whether u and v are shared, which repeats them in every layer.
        num_layers: Number of layers.
    """
    for old, new in _TOP.items():
        if name == new:
            biases = {"r_w_bias", "r_r_bias"}
            repeated = range(num_layers) if share_biases and old in biases else ()
            return [old, *(f"h.{layer}.dec_attn.{old}" for layer in repeated)]
    for start, table in (("embedding.vision.", _VISION), (r"layers.\d+.", _LAYER)):
        match = re.match(start, name)
        rest = name[match.end() :] if match else ""
        for old, new in table.items():
            if match and (rest == new or rest.startswith(new + ".")):
                tail = old + rest.removeprefix(new)
                if table is _VISION:
                    return [f"vision_encoder.{tail}", f"ic_encoder.{tail}"]
                return [f"h.{name.split('.')[1]}.{tail}"]
    raise CheckpointError(f"weight {name!r} has no place in the released model")


def released_from_state_dict(weights: Mapping[str, Tensor], config: ModelConfig) -> StateDict:
    """Renames db1's weights to the released model's, with its repetitions and its constant.

    Args:
        weights: db1's state dict (or meta tensors of its shapes).
        config: Of the model.

    Raises:
        CheckpointError: For options that the released model does not have.
    """
    if config.position_encoding != "transformer_xl":
        raise CheckpointError(
            f"the released layout has no place for position_encoding {config.position_encoding!r}"
        )
    released = {}
    for name, tensor in weights.items():
        for other in released_names(name, config.share_biases, config.num_layers):
            released[other] = tensor
    some = next(iter(weights.values()))
    released[FREQUENCIES] = frequencies(config.width).to(some)
    return released


def frequencies(width: int) -> Tensor:
    """The constant `pos_emb.inv_freq`, float32 (width / 2,)."""
    return 10_000.0 ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)


def _rename(name: str, shared: bool) -> str | None:
    """db1's name; None for what repeats another tensor or is a constant."""
    if name in _TOP:
        return _TOP[name]
    if name == FREQUENCIES or name.startswith("ic_encoder."):
        return None
    if name.startswith("vision_encoder."):
        return _by_prefix("embedding.vision.", name.removeprefix("vision_encoder."), _VISION, name)
    layer = re.fullmatch(r"h\.(\d+)\.(.+)", name)
    if layer is None:
        known = [*_TOP, "vision_encoder.*", "h.<i>.*", "ic_encoder.*"]
        raise CheckpointError(
            f"weight {name!r} is not one of the released model's, expected {known}"
            f"{nearest(name, _TOP)}"
        )
    if shared and layer[2] in ("dec_attn.r_w_bias", "dec_attn.r_r_bias"):
        return None
    return _by_prefix(f"layers.{layer[1]}.", layer[2], _LAYER, name)


def _by_prefix(start: str, rest: str, table: Mapping[str, str], name: str) -> str:
    for old, new in table.items():
        if rest == old or rest.startswith(old + "."):
            return start + new + rest.removeprefix(old)
    raise CheckpointError(
        f"weight {name!r} is not one of the released model's, expected {sorted(table)} in its place"
    )


def _vocabulary(released: Mapping[str, Any]) -> VocabularyConfig:
    overlap = released.get("overlap_with_text", True)
    return VocabularyConfig(
        text_size=released["text_vocab_size"],
        num_continuous_bins=released["num_continuous_bin"],
        num_discrete=released["num_discrete_values"],
        discrete_ids="shared_with_text" if overlap else "own_range",
        continuous_decode="left_edge",
    )
