"""The position encodings' formulas: attention written out pair by pair, gradients too."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from db1.model import visibility
from db1.model.attention import RelativeAttention
from db1.model.attention_kernels import ATTENTION_KERNELS, shift
from db1.model.attention_plan import AttentionPlan
from db1.model.config import ModelConfig
from db1.model.positions import (
    POSITION_ENCODINGS,
    SinusoidPositions,
    alibi_slopes,
    descending_distances,
    sinusoids,
)
from db1.model.visibility import Visibility

ENCODINGS = sorted(POSITION_ENCODINGS)
CLAMPING = ["alibi", "transformer_xl"]
OPTIONS = [{}, {"same_length": False}, {"num_heads": 3, "width": 12}]


def transformer_xl_score(attention: RelativeAttention, config: ModelConfig) -> Callable:
    """((q + u) . k + (q + v) . W [sin | cos](distance)) / sqrt(K)"""
    half = config.width // 2

    def score(head: int, q: Tensor, k: Tensor, distance: int) -> Tensor:
        far = distance if config.clamp_length is None else min(distance, config.clamp_length)
        angles = [far / 10_000 ** (2 * i / config.width) for i in range(half)]
        wave = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows = slice(head * config.head_dim, (head + 1) * config.head_dim)
        r = attention.positions.projection.weight[rows] @ torch.tensor(wave, dtype=q.dtype)
        return (q + attention.content_bias[head]) @ k + (q + attention.position_bias[head]) @ r

    return score


def rotary_score(attention: RelativeAttention, config: ModelConfig) -> Callable:
    """(q + u) . R k with pair i of k turned back by distance * 10000 ** (-2 i / K)."""

    def score(head: int, q: Tensor, k: Tensor, distance: int) -> Tensor:
        q = q + attention.content_bias[head]
        total = q.new_zeros(())
        for i in range(config.head_dim // 2):
            angle = -distance / 10_000 ** (2 * i / config.head_dim)
            cos, sin = math.cos(angle), math.sin(angle)
            x, y = k[2 * i], k[2 * i + 1]
            total = total + q[2 * i] * (cos * x - sin * y) + q[2 * i + 1] * (sin * x + cos * y)
        return total

    return score


def alibi_score(attention: RelativeAttention, config: ModelConfig) -> Callable:
    """(q + u) . k - slope * distance (unscaled), written for 2 and 3 heads."""
    slopes = {2: [1 / 16, 1 / 256], 3: [1 / 16, 1 / 256, 1 / 4]}[config.num_heads]

    def score(head: int, q: Tensor, k: Tensor, distance: int) -> Tensor:
        far = distance if config.clamp_length is None else min(distance, config.clamp_length)
        lost = slopes[head] * far * math.sqrt(config.head_dim)
        return (q + attention.content_bias[head]) @ k - lost

    return score


def no_position_score(attention: RelativeAttention, config: ModelConfig) -> Callable:
    """(q + u) . k"""
    return lambda head, q, k, distance: (q + attention.content_bias[head]) @ k


SCORES = {
    "transformer_xl": transformer_xl_score,
    "rotary": rotary_score,
    "alibi": alibi_score,
    "none": no_position_score,
}


def plain_attention(
    attention: RelativeAttention, config: ModelConfig, x_BTD: Tensor, span: int | None
) -> Tensor:
    """The attention sub-layer token by token; no tensor holds more than one head of one token."""
    score = SCORES[config.position_encoding](attention, config)
    w_q, w_k, w_v = attention.qkv.weight.unflatten(0, (3, config.num_heads, -1))
    outputs = []
    for row in x_BTD:
        for i in range(len(row)):
            first = 0 if span is None else max(0, i - span + 1)
            mixed = []
            for head in range(config.num_heads):
                q = w_q[head] @ row[i]
                scores = [
                    score(head, q, w_k[head] @ row[j], i - j) / math.sqrt(config.head_dim)
                    for j in range(first, i + 1)
                ]
                weights = torch.stack(scores).softmax(0)
                values = torch.stack([w_v[head] @ row[j] for j in range(first, i + 1)])
                mixed.append(weights @ values)
            outputs.append(attention.output.weight @ torch.cat(mixed))
    return torch.stack(outputs).view_as(x_BTD)


def tiny_attention(
    encoding: str, num_tokens: int, **options: object
) -> tuple[ModelConfig, RelativeAttention, Callable[[Tensor], Tensor]]:
    """An attention sub-layer with weights of its own, and the call that runs it."""
    sizes = {"num_heads": 2, "width": 8, "memory_length": 4, "share_biases": False}
    sizes["attention"] = "blocked"
    config = ModelConfig(**{**sizes, "position_encoding": encoding, **options})
    attention = RelativeAttention(config).double()
    torch.manual_seed(0)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    x = torch.zeros((), dtype=torch.float64)
    features = attention.positions.features(config, descending_distances(num_tokens, x))
    rule = Visibility(
        num_queries=num_tokens,
        num_keys=num_tokens,
        span=config.attention_span,
        valid_keys=None,
        dtype=torch.float64,
        device=x.device,
    )
    kernel = ATTENTION_KERNELS[config.attention]
    plan = AttentionPlan(kernel=kernel, visibility=kernel.prepare(rule))

    def run(x_BTD: Tensor) -> Tensor:
        return attention(x_BTD, attention.positions(features, torch.float64), None, plan)

    return config, attention, run


@pytest.mark.parametrize("kernel", ["blocked", "sdpa", "reference"])
@pytest.mark.parametrize(
    ("encoding", "options"),
    [(encoding, options) for encoding in ENCODINGS for options in OPTIONS]
    + [(encoding, {"clamp_length": 2}) for encoding in CLAMPING],
    ids=str,
)
def test_attention_is_its_formula(
    monkeypatch: pytest.MonkeyPatch, encoding: str, kernel: str, options: dict
) -> None:
    """Output and all gradients, through each kernel that learns on a CPU."""
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 3)
    config, attention, run = tiny_attention(encoding, 7, attention=kernel, **options)
    x = torch.randn(2, 7, config.width, dtype=torch.float64, requires_grad=True)
    got, expected = run(x), plain_attention(attention, config, x, config.attention_span)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
    leaves = [x, *attention.parameters()]
    weights = torch.randn_like(got)
    got_grads = torch.autograd.grad((got * weights).sum(), leaves)
    expected_grads = torch.autograd.grad((expected * weights).sum(), leaves)
    for got_grad, expected_grad in zip(got_grads, expected_grads, strict=True):
        torch.testing.assert_close(got_grad, expected_grad, atol=1e-11, rtol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradcheck(encoding: str) -> None:
    config, attention, run = tiny_attention(encoding, 3, width=4)
    x = torch.randn(1, 3, config.width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *weights: run(x), (x, *attention.parameters()))


@pytest.mark.parametrize(
    ("num_heads", "expected"),
    [
        (1, [2**-8]),
        (8, [2.0**-h for h in range(1, 9)]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
        (12, [2.0**-h for h in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_slopes_of_the_paper(num_heads: int, expected: list[float]) -> None:
    assert alibi_slopes(num_heads) == pytest.approx(expected, rel=1e-15)


def test_distances_descend_to_minus_one() -> None:
    assert descending_distances(3, torch.zeros(1)).tolist() == [2, 1, 0, -1]
    assert descending_distances(3, torch.zeros(1).bfloat16()).dtype == torch.float32
    assert descending_distances(3, torch.zeros(1).double()).dtype == torch.float64


def test_sinusoids_are_the_formula() -> None:
    table = sinusoids(torch.tensor([0.0, 5.0]), 4, None)
    assert table[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(5), math.sin(0.05), math.cos(5), math.cos(0.05)]
    torch.testing.assert_close(table[1], torch.tensor(expected))


def test_clamped_distances_share_a_vector() -> None:
    table = sinusoids(torch.tensor([9.0, 4.0, 3.0, 2.0]), 8, 3)
    assert torch.equal(table[0], table[2]) and torch.equal(table[1], table[2])
    assert not torch.equal(table[2], table[3])


def test_projection_splits_heads() -> None:
    config = ModelConfig(num_heads=2, width=6)
    positions = SinusoidPositions(config)
    features = positions.features(config, descending_distances(4, torch.zeros(1)))
    r = positions(features, torch.float32).vectors
    assert r.shape == (2, 5, 3)
    torch.testing.assert_close(r[1, 2], positions.projection(features[2])[3:])


@settings(max_examples=10, deadline=None)
@given(
    num_queries=st.integers(1, 6),
    memory=st.integers(0, 6),
    clamp=st.one_of(st.none(), st.integers(1, 8)),
)
def test_transformer_xl_position_scores_depend_on_distance_alone(
    num_queries: int, memory: int, clamp: int | None
) -> None:
    """Equal queries: the position scores are constant along every diagonal, and beyond a clamp."""
    num_keys = memory + num_queries
    config = ModelConfig(num_heads=2, width=8, clamp_length=clamp)
    torch.manual_seed(0)
    positions = SinusoidPositions(config).double()
    like = torch.zeros(1, dtype=torch.float64)
    features = positions.features(config, descending_distances(num_keys, like))
    r = positions(features, torch.float64).vectors
    qv = torch.randn(1, 2, 1, 4, dtype=torch.float64).expand(-1, -1, num_queries, -1)
    scores = shift(qv @ r.transpose(1, 2))[0]
    by_distance: dict[int, Tensor] = {}
    for i in range(num_queries):
        for j in range(memory + i + 1):
            distance = memory + i - j
            if clamp is not None:
                distance = min(distance, clamp)
            seen = by_distance.setdefault(distance, scores[:, i, j])
            torch.testing.assert_close(scores[:, i, j], seen, atol=1e-12, rtol=0)
    assert len(by_distance) == min(num_keys, (clamp or num_keys) + 1)
