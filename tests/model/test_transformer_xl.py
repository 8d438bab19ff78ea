"""The decoder's training path, its options and its scoring."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from db1.errors import ConfigError
from db1.model.config import ModelConfig
from db1.model.loss import LinearCrossEntropy
from db1.model.positions import POSITION_ENCODINGS
from db1.model.transformer_xl import TransformerXL

OPTIONS = [
    {},
    {"normalization": "pre"},
    {"deepnorm": True},
    {"share_biases": False},
    {"tie_embeddings": False},
    {"activation": "gelu"},
    {"activation": "relu", "inner_width": 11},
    {"inner_width": 10},
    {"same_length": False, "memory_length": 0},
    {"clamp_length": 2},
    *({"position_encoding": name} for name in POSITION_ENCODINGS if name != "transformer_xl"),
    {"bin_init": "smooth"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_learns(make_model, make_batch, options: dict) -> None:
    model = make_model(**options).train()
    batch = make_batch(images=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    first = None
    for _ in range(15):
        loss = model(batch).loss
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None]
        optimizer.step()
    assert loss.item() < 0.6 * first


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_token_sees_a_later_one(make_model, make_batch, options: dict) -> None:
    model, batch = make_model(**options), make_batch()
    changed = batch.ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 40
    before, after = model.hidden(batch), model.hidden(replace(batch, ids=changed))
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=0, rtol=0)
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=-1).min() > 1e-8


def test_same_length_limits_what_a_query_sees(make_model, make_batch) -> None:
    """One layer: a change reaches the span - 1 tokens behind it, not further."""
    model, batch = make_model(num_layers=1, memory_length=3), make_batch()
    changed = batch.ids.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 40
    difference = (model.hidden(batch) - model.hidden(replace(batch, ids=changed))).abs().amax(-1)
    assert (difference[0] > 1e-9).tolist() == [False, False, True, True, True] + [False] * 4


def test_loss_under_the_mask_equals_full_logits(make_model, make_batch) -> None:
    model, batch = make_model(), make_batch(batch_size=3)
    out = model(batch)
    logits = model.logits(model.hidden(batch))
    losses = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none")
    losses = losses.view(batch.labels.shape) * batch.loss_mask
    torch.testing.assert_close(out.loss_sum.double(), losses.sum(), atol=1e-5, rtol=0)
    expected = losses.sum() / batch.loss_mask.sum()
    torch.testing.assert_close(out.loss.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(out.sample_loss.double(), losses.sum(1).detach(), atol=1e-5, rtol=0)
    assert int(out.num_targets) == int(batch.loss_mask.sum())
    assert out.sample_targets.tolist() == batch.loss_mask.sum(1).tolist()


def test_logits_are_computed_under_the_mask_only(
    make_model, make_batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_model(), make_batch()
    scored = []
    original = LinearCrossEntropy.apply

    def apply(hidden: torch.Tensor, *others: object) -> object:
        scored.append(hidden)
        return original(hidden, *others)

    monkeypatch.setattr(LinearCrossEntropy, "apply", apply)
    model(batch)
    assert [tuple(hidden.shape) for hidden in scored] == [(int(batch.loss_mask.sum()), 8)]


def test_nothing_to_predict_is_a_loss_of_zero(make_model, make_batch) -> None:
    model, batch = make_model(), make_batch()
    out = model(replace(batch, loss_mask=torch.zeros_like(batch.loss_mask)))
    out.loss.backward()
    assert out.loss.item() == 0.0 and int(out.num_targets) == 0


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_a_range(make_model, tied: bool) -> None:
    model = make_model(tie_embeddings=tied)
    hidden = torch.randn(2, 3, 8, dtype=torch.float64)
    whole = model.logits(hidden)
    assert whole.shape == (2, 3, 40)
    for ids in (range(5, 9), slice(5, 9)):
        torch.testing.assert_close(model.logits(hidden, ids), whole[..., 5:9], atol=1e-14, rtol=0)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_changes_no_gradient(
    make_model, make_batch, dropout: float
) -> None:
    rates = {
        "residual_dropout": dropout,
        "attention_dropout": dropout,
        "stochastic_depth": dropout,
    }
    grads = []
    for flag in (False, True):
        model = make_model(activation_checkpointing=flag, **rates).train()
        torch.manual_seed(3)
        model(make_batch()).loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "rate", ["embedding_dropout", "residual_dropout", "attention_dropout", "stochastic_depth"]
)
def test_dropout_acts_in_training_only(make_model, make_batch, rate: str) -> None:
    model, batch = make_model(**{rate: 0.4}), make_batch()
    torch.testing.assert_close(model.hidden(batch), model.hidden(batch), atol=0, rtol=0)
    assert (model.hidden(batch) - make_model().hidden(batch)).abs().max() < 1e-10
    model.train()
    assert (model.hidden(batch) - model.hidden(batch)).abs().max() > 1e-3


@pytest.mark.parametrize("normalization", ["pre", "post"])
def test_stochastic_depth_skips_sub_layers_of_whole_sequences(make_model, normalization) -> None:
    """A sub-layer is skipped at its rate, or its output is scaled so that its mean stays."""
    model = make_model(normalization=normalization, stochastic_depth=0.25).train()
    layer = model.layers[0]
    x_BTD = torch.zeros(4000, 2, model.config.width, dtype=torch.float64)
    norm = torch.nn.Identity()
    torch.manual_seed(0)
    kept = layer.draw_kept(x_BTD)
    torch.manual_seed(0)
    assert torch.equal(layer.draw_kept(x_BTD)[0], kept[0])
    assert not torch.equal(kept[0], kept[1])
    joined = layer._join(x_BTD, torch.ones_like(x_BTD), norm, kept[0])
    values, counts = joined.flatten(1).unique(dim=0, return_counts=True)
    assert values[:, 0].tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (values == values[:, :1]).all()
    assert counts[0].item() / 4000 == pytest.approx(0.25, abs=0.03)


def test_stochastic_depth_grows_with_the_layer() -> None:
    linear = ModelConfig(num_layers=4, stochastic_depth=0.2, stochastic_depth_rule="linear")
    assert [linear.skip_rate(i) for i in range(4)] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    constant = ModelConfig(num_layers=4, stochastic_depth=0.1)
    assert {constant.skip_rate(i) for i in range(4)} == {0.1}
    with pytest.raises(ConfigError, match="stochastic_depth: got 1.0, expected at least 0"):
        ModelConfig(stochastic_depth=1.0)
    with pytest.raises(ConfigError, match="stochastic_depth_rule: got 'square'"):
        ModelConfig(stochastic_depth_rule="square")


def test_deepnorm_scales_residual_and_weights() -> None:
    torch.manual_seed(0)
    sizes = {"num_layers": 8, "num_heads": 2, "width": 64}
    model = TransformerXL(ModelConfig(**sizes, deepnorm=True), 10)
    assert model.config.residual_scale == pytest.approx(2.0)
    beta = 64**-0.25
    weight = model.layers[0].feed_forward.expand.weight
    assert weight.std().item() == pytest.approx(0.02 * beta, rel=0.05)
    qkv = model.layers[0].attention.qkv.weight
    assert qkv[:128].std().item() == pytest.approx(0.02, rel=0.05)
    assert qkv[128:].std().item() == pytest.approx(0.02 * beta, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_close(make_model, make_batch, dtype: torch.dtype) -> None:
    batch = make_batch(images=True)
    exact = make_model()(batch).loss.item()
    out = make_model().to(dtype)(batch)
    out.loss.backward()
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(exact, rel=1e-5 if dtype == torch.float32 else 0.1)


def test_autocast_stays_close(make_model, make_batch) -> None:
    model, batch = make_model().float(), make_batch(images=True)
    exact = model(batch).loss.item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch).loss
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=0.1)


def test_defaults_are_the_released_1_2b() -> None:
    with torch.device("meta"):
        model = TransformerXL(ModelConfig(), 33_025)
    assert 1.15e9 < sum(p.numel() for p in model.parameters()) < 1.25e9


def test_empty_vocabulary_raises() -> None:
    with pytest.raises(ConfigError, match="vocabulary_size"):
        TransformerXL(ModelConfig(num_layers=1, num_heads=1, width=2), 0)
