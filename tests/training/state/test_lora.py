"""LoRA in the training loop: what is trained, saved, merged, and gone on with."""

import shutil

import pytest
import torch
from tiny_training import RandomSamples, make_model, make_trainer

from db1.checkpoint.adapter import (
    BASE_FILE,
    LoraConfig,
    LoraFiles,
    add_lora,
    merge_adapter,
    merged_weights,
)
from db1.checkpoint.run import load_weights
from db1.checkpoint.weights import read_weights
from db1.data.collate import collate
from db1.errors import CheckpointError, ConfigError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.seeding import seed_everything

pytest.importorskip("peft", reason='pip install "db1[lora]"')

CONFIG = LoraConfig(rank=3, alpha=12.0)
ALL = LoraConfig(targets=(*CONFIG.targets, "positions.projection"), rank=2, alpha=2.0, dropout=0.1)


def train(folder, config=CONFIG, seed=7, **changes):
    """The tiny training with frozen weights of their own seed and low-rank updates."""
    trainer = make_trainer(folder, learning_rate=1e-2, **changes)

    def adapted():
        state = torch.random.get_rng_state()
        seed_everything(seed)
        model = make_model()
        torch.random.set_rng_state(state)
        return add_lora(model, config)

    trainer._make_model = adapted
    trainer._files = LoraFiles(config, folder)
    return trainer.run()


def _base(seed=7):
    seed_everything(seed)
    return make_model()


def _newest(folder):
    return folder / "checkpoints" / (folder / "checkpoints/latest").read_text().strip()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    assert train(folder).step == 6
    return folder


def test_starts_as_the_frozen_model_and_merges_to_the_adapted_one():
    batch = collate([RandomSamples(8, images=0.3)[n] for n in range(8)])
    plain, adapted = _base().eval(), add_lora(_base(), ALL).eval()
    with torch.no_grad():
        assert torch.equal(plain(batch).loss_sum, adapted(batch).loss_sum)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1.0)
        expected = adapted(batch).loss_sum
        assert abs(expected - plain(batch).loss_sum) > 0.1
        plain.load_state_dict(merged_weights(adapted.state_dict(), ALL.scale))
        torch.testing.assert_close(plain(batch).loss_sum, expected, rtol=1e-5, atol=0)


def test_only_the_updates_are_trained():
    model = add_lora(_base(), CONFIG)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    assert len(trained) == 2 * 4 * 2  # A and B, four matrices, two layers


def test_a_checkpoint_holds_the_merged_weights_and_the_adapter(whole):
    weights, base = load_weights(whole), _base().state_dict()
    assert weights.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], weights[name])}
    assert changed and all(any(t in name for t in CONFIG.targets) for name in changed)
    frozen = read_weights(whole / BASE_FILE)
    assert all(torch.equal(frozen[name], base[name]) for name in base)
    merged = merge_adapter(base, _newest(whole) / "adapter")
    assert all(torch.equal(merged[name], weights[name]) for name in weights)


def test_peft_itself_reads_the_adapter(whole):
    """Only the folder `adapter` and the plain model, through peft's own loader."""
    import peft

    model = peft.PeftModel.from_pretrained(_base(), str(_newest(whole) / "adapter"))
    merged = model.merge_and_unload().state_dict()
    weights = load_weights(whole)
    for name, tensor in weights.items():
        torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_goes_on_to_the_same_weights(tmp_path, whole, precision):
    if precision == "bf16":
        whole = tmp_path / "whole"
        train(whole, precision=precision)
    cut = tmp_path / "cut"
    train(cut, precision=precision)
    shutil.rmtree(cut / "checkpoints/step-00000006")
    train(cut, precision=precision)
    left, right = load_weights(whole), load_weights(cut)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_other_frozen_weights_are_refused(tmp_path):
    train(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/step-00000006")
    base = tmp_path / BASE_FILE
    content = bytearray(base.read_bytes())
    content[-1] ^= 1
    base.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"base.safetensors: missing or not the frozen"):
        train(tmp_path)


def test_an_adapter_of_another_model_is_refused(whole):
    config = ModelConfig(
        num_layers=1, num_heads=2, width=16, memory_length=16, vision_channels=8, vision_groups=4
    )
    other = TransformerXL(config, 61).state_dict()
    with pytest.raises(CheckpointError, match="does not fit this model"):
        merge_adapter(other, _newest(whole) / "adapter")
    with pytest.raises(CheckpointError, match="no LoRA adapter"):
        merge_adapter(other, whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "rank: got 0"),
        ({"alpha": -1.0}, "alpha: got -1"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"targets": ("attention.qvk",)}, "attention.qvk.*did you mean 'attention.qkv'"),
        ({"targets": ()}, "targets: none"),
    ],
)
def test_options_that_cannot_be_used(options, words):
    with pytest.raises(ConfigError, match=words):
        LoraConfig(**options)


def test_a_matrix_that_the_model_lacks():
    config = ModelConfig(num_layers=1, num_heads=2, width=32, position_encoding="alibi")
    with pytest.raises(ConfigError, match=r"no matrix 'positions.projection'"):
        add_lora(TransformerXL(config, 61), ALL)
