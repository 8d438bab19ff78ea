"""Every position encoding of the registry keeps the same contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from db1.model.positions import POSITION_ENCODINGS
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION

ENCODINGS = sorted(POSITION_ENCODINGS)
VOCABULARY_SIZE = 40

every_encoding = pytest.mark.parametrize("encoding", ENCODINGS)
every_rule = pytest.mark.parametrize(
    "rule", [{}, {"same_length": False}, {"normalization": "pre", "share_biases": False}], ids=str
)


def draw(batch_size: int, num_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and local positions."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY_SIZE, (batch_size, num_tokens), generator=generator)
    return ids, torch.randint(-1, 6, (batch_size, num_tokens), generator=generator)


def with_biases(model: TransformerXL) -> TransformerXL:
    """Draws the biases u and v, which start as zeros."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith(("content_bias", "position_bias")):
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.copy_(drawn)
    return model


def cut(tokens: tuple[Tensor, Tensor], start: int, stop: int) -> tuple[Tensor, Tensor]:
    return tokens[0][:, start:stop], tokens[1][:, start:stop]


@every_encoding
def test_forward_has_its_shape_and_depends_on_order(make_model, make_batch, encoding: str) -> None:
    model, batch = with_biases(make_model(position_encoding=encoding)), make_batch(images=True)
    hidden = model.hidden(batch)
    assert hidden.shape == (2, 9, 8) and bool(hidden.isfinite().all())
    assert model.logits(hidden).shape == (2, 9, VOCABULARY_SIZE)
    flat = NO_LOCAL_POSITION * torch.ones_like(batch.ids)
    batch = replace(make_batch(), local_positions=flat)
    swapped = replace(batch, ids=batch.ids[:, [1, 0, *range(2, 9)]])
    moved = (model.hidden(batch) - model.hidden(swapped))[:, 2:].abs().max()
    one_layer = with_biases(make_model(position_encoding=encoding, num_layers=1, same_length=False))
    alone = (one_layer.hidden(batch) - one_layer.hidden(swapped))[:, 2:].abs().max()
    assert moved > 1e-6
    assert alone < 1e-12 if encoding == "none" else alone > 1e-6


@every_encoding
@every_rule
def test_no_token_sees_a_later_one(make_model, make_batch, encoding: str, rule: dict) -> None:
    model, batch = with_biases(make_model(position_encoding=encoding, **rule)), make_batch()
    ids = batch.ids.clone()
    ids[:, 5] = (ids[:, 5] + 1) % VOCABULARY_SIZE
    before, after = model.hidden(batch), model.hidden(replace(batch, ids=ids))
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=0, rtol=0)
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=-1).min() > 1e-8


@every_encoding
@every_rule
@pytest.mark.parametrize("path", ["decode", "recur"])
def test_segments_equal_one_full_pass(
    make_model, make_batch, encoding: str, rule: dict, path: str
) -> None:
    model = with_biases(make_model(position_encoding=encoding, memory_length=16, **rule))
    batch = make_batch(num_tokens=16)
    memory, parts = None, []
    for start, stop in [(0, 4), (4, 5), (5, 11), (11, 16)]:
        tokens = cut((batch.ids, batch.local_positions), start, stop)
        part, memory = getattr(model, path)(*tokens, (), memory)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), model.hidden(batch), atol=1e-10, rtol=0)


@every_encoding
@every_rule
@pytest.mark.parametrize("start", ["empty", "zeros"])
@pytest.mark.parametrize("lengths", [[5, 1, 1, 9, 2]])
def test_sliding_keys_equal_sliding_hidden_states(
    make_model, encoding: str, rule: dict, start: str, lengths: list[int]
) -> None:
    options = {"position_encoding": encoding, "memory_start": start, **rule}
    model = with_biases(make_model(**options))
    tokens = draw(2, sum(lengths))
    cached, states, done = None, None, 0
    for length in lengths:
        part = cut(tokens, done, done + length)
        got, cached = model.decode(*part, (), cached)
        with torch.no_grad():
            expected, states = model.recur(*part, (), states)
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
        assert cached.filled <= 6 and states.shape[2] <= 6
        done += length


@every_encoding
@pytest.mark.parametrize("start", ["empty", "zeros"])
def test_rows_restart_and_grow_one_by_one(make_model, encoding: str, start: str) -> None:
    """Rows of unequal length, restarted at different times, equal each row alone."""
    options = {"position_encoding": encoding, "memory_start": start, "normalization": "pre"}
    model = with_biases(make_model(same_length=False, **options))
    together = model.new_memory(3, 6)
    alone = [model.new_memory(1, 6) for _ in range(3)]
    steps = [[3, 1, 2], [1, 1, 1], [0, 4, 2], [2, 2, 2], [5, 0, 1], [1, 1, 1]]
    restarts = {1: [1], 3: [0, 2], 4: [2]}
    for number, lengths in enumerate(steps):
        ended = torch.tensor([row in restarts.get(number, []) for row in range(3)])
        together = together.reset_rows(ended)
        tokens = draw(3, max(lengths), seed=number)
        hidden, together = model.decode(*tokens, (), together, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            if ended[row]:
                alone[row] = model.new_memory(1, 6)
            if length:
                part = cut(tokens, max(lengths) - length, max(lengths))
                part = (part[0][[row]], part[1][[row]])
                expected, alone[row] = model.decode(*part, (), alone[row])
                torch.testing.assert_close(hidden[row, -length:], expected[0], atol=1e-10, rtol=0)
        assert together.num_tokens.tolist() == [int(memory.num_tokens) for memory in alone]
        assert int(together.num_tokens.max()) <= 6 and together.layer(0)[0].shape[2] <= 6


@every_encoding
def test_blocked_kernel_equals_the_plain_one(make_model, make_batch, encoding: str) -> None:
    """At a size of several blocks: with gradients the blocked kernel runs, without the plain."""
    options = {"position_encoding": encoding, "memory_length": 70, "init_std": 0.2}
    model = with_biases(make_model(**options))
    batch = make_batch(num_tokens=150)
    blocked = model.hidden(batch)
    with torch.no_grad():
        plain = model.hidden(batch)
    assert blocked.requires_grad and not plain.requires_grad
    torch.testing.assert_close(blocked, plain, atol=1e-11, rtol=0)


@every_encoding
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activation_checkpointing_changes_no_gradient(
    make_model, make_batch, encoding: str, dropout: float
) -> None:
    grads = []
    for flag in (False, True):
        rates = {"residual_dropout": dropout, "attention_dropout": dropout}
        options = {"position_encoding": encoding, "activation_checkpointing": flag, **rates}
        model = with_biases(make_model(**options)).train()
        torch.manual_seed(3)
        model(make_batch()).loss.backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-12, rtol=0)


@every_encoding
def test_attention_dropout_acts_in_training_only(make_model, make_batch, encoding: str) -> None:
    model = with_biases(make_model(position_encoding=encoding, attention_dropout=0.4))
    plain, batch = with_biases(make_model(position_encoding=encoding)), make_batch()
    torch.testing.assert_close(model.hidden(batch), plain.hidden(batch), atol=1e-11, rtol=0)
    model.train()
    assert (model.hidden(batch) - model.hidden(batch)).abs().max() > 1e-3


@every_encoding
def test_bfloat16_runs_and_stays_close(make_model, make_batch, encoding: str) -> None:
    exact = with_biases(make_model(position_encoding=encoding)).bfloat16().double()
    model = with_biases(make_model(position_encoding=encoding)).bfloat16().train()
    batch = make_batch()
    out = model(batch)
    out.loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert out.loss.item() == pytest.approx(exact(batch).loss.item(), rel=0.05)
    memory, expected_memory = None, None
    for seed in range(3):
        tokens = draw(2, 4, seed)
        got, memory = model.decode(*tokens, (), memory)
        expected, expected_memory = exact.decode(*tokens, (), expected_memory)
    assert got.dtype == torch.bfloat16
    assert (got.double() - expected).abs().mean() < 0.1


@every_encoding
def test_terms_of_a_shorter_span_are_the_end_of_a_longer_one(make_model, encoding: str) -> None:
    model = make_model(position_encoding=encoding)
    for short, long in zip(model.position_terms(4), model.position_terms(11), strict=True):
        for name in ("vectors", "scores", "rotations"):
            got, expected = getattr(short, name), getattr(long.last(5), name)
            assert (got is None) == (expected is None)
            if got is not None:
                torch.testing.assert_close(got, expected, atol=1e-14, rtol=0)


moves = settings(max_examples=10, deadline=None)


@every_encoding
@moves
@given(data=st.data())
def test_moving_along_time_changes_nothing(make_model, encoding: str, data) -> None:
    """What lies beyond L * (span - 1) tokens is out of sight, wherever the tokens stand."""
    model = with_biases(make_model(position_encoding=encoding, memory_length=4))
    sight = 2 * (4 - 1)
    prefix = data.draw(st.integers(1, 9))
    visible = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 1000))
    ids, places = draw(1, prefix + sight + visible, seed)
    with torch.no_grad():
        whole, _ = model.recur(ids, places)
        moved, _ = model.recur(ids[:, prefix:], places[:, prefix:])
    torch.testing.assert_close(whole[:, -visible:], moved[:, -visible:], atol=1e-10, rtol=0)
    assert (whole[:, prefix] - moved[:, 0]).abs().max() > 1e-9


@every_encoding
@moves
@given(data=st.data())
def test_unused_columns_of_the_memory_change_nothing(make_model, encoding: str, data) -> None:
    """The same tokens behind 0, 1, 2, ... columns that belong to a longer row."""
    model = with_biases(make_model(position_encoding=encoding, same_length=False))
    unused = data.draw(st.integers(1, 6))
    length = data.draw(st.integers(1, 6))
    tokens = draw(2, unused + length, data.draw(st.integers(0, 1000)))
    lengths = torch.tensor([length, unused + length])
    memory = model.new_memory(2, 12)
    _, memory = model.decode(*tokens, (), memory, lengths)
    new = draw(2, 3, 7)
    together, _ = model.decode(*new, (), memory)
    part = cut((tokens[0][:1], tokens[1][:1]), unused, unused + length)
    _, alone = model.decode(*part, (), model.new_memory(1, 12))
    expected, _ = model.decode(new[0][:1], new[1][:1], (), alone)
    torch.testing.assert_close(together[:1], expected, atol=1e-10, rtol=0)
