"""Names and options of the released model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.checkpoint.released import config_from_released, state_dict_from_released
from db1.errors import CheckpointError
from db1.model.transformer_xl import TransformerXL
from db1.tokens.vocabulary import Vocabulary

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["released", "deepnorm", "no_memory", "pre_ln_untied"]


def recorded(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """Config and weights of a recording."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        weights = {
            key.removeprefix("param/"): torch.from_numpy(stored[key])
            for key in stored.files
            if key.startswith("param/")
        }
        return json.loads(stored["config"].tobytes()), weights


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_finds_its_place(name: str) -> None:
    released, weights = recorded(name)
    config, vocabulary = config_from_released(released)
    model = TransformerXL(config, Vocabulary(vocabulary).size)
    assert state_dict_from_released(weights).keys() == model.state_dict().keys()


def test_deepspeed_prefix_and_repeated_encoder() -> None:
    _, weights = recorded("released")
    repeated = {
        name.replace("vision_encoder", "ic_encoder"): tensor for name, tensor in weights.items()
    }
    both = {f"module.{name}": tensor for name, tensor in {**weights, **repeated}.items()}
    assert state_dict_from_released(both).keys() == state_dict_from_released(weights).keys()


@pytest.mark.parametrize(
    "name", ["lm_hea.weight", "h.0.dec_attn.k_net.weight", "vision_encoder.cls", "h.x.pos_ff"]
)
def test_foreign_weight_raises(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        state_dict_from_released({name: torch.zeros(1)})


def test_options_are_read() -> None:
    released, _ = recorded("released")
    changed = {
        **released, "clamp_len": 7, "n_inner": 40, "activation_fn": "relu", "mem_len": 5,
        "untie_r": True, "share_input_output_embedding": False, "overlap_with_text": False,
    }  # fmt: skip
    config, vocabulary = config_from_released(changed)
    assert (config.clamp_length, config.inner_width, config.activation) == (7, 40, "relu")
    assert (config.memory_length, config.memory_start) == (5, "zeros")
    assert not config.share_biases and not config.tie_embeddings
    assert (vocabulary.text_size, vocabulary.num_continuous_bins) == (96, 48)
    assert (vocabulary.discrete_ids, vocabulary.continuous_decode) == ("own_range", "left_edge")


@pytest.mark.parametrize("value", [None, 0, -1])
def test_no_clamping(value: int | None) -> None:
    released, _ = recorded("released")
    assert config_from_released({**released, "clamp_len": value})[0].clamp_length is None


def test_deepnorm_has_no_effect_before_pre_ln() -> None:
    released, _ = recorded("released")
    config, _ = config_from_released({**released, "use_deepnorm": True, "pre_lnorm": True})
    assert config.residual_scale == 1.0


def test_missing_size_raises() -> None:
    with pytest.raises(CheckpointError, match="n_layer"):
        config_from_released({"n_embed": 8})
