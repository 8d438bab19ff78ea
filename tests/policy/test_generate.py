from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from db1.errors import ConfigError, DataError
from db1.model.memory import Memory
from db1.policy.decode import DecodeConfig
from db1.policy.generate import generate, text_losses
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

PROMPT = "pick up the blue key and"


def whole_pass_losses(model, ids: np.ndarray) -> np.ndarray:
    """Losses of all tokens but the first in one pass."""
    ids_1T = torch.from_numpy(ids[None].astype(np.int64))
    none = torch.full_like(ids_1T, -1)
    hidden, _ = model.decode(ids_1T[:, :-1], none[:, :-1], (), Memory.empty(model, 1, 0))
    scores = model.logits(hidden[0]).log_softmax(-1)
    return -scores[torch.arange(len(ids) - 1), ids_1T[0, 1:]].detach().numpy()


def test_greedy_text_is_the_argmax_of_whole_passes(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    model = make_model()
    written = generate(
        model, vocabulary, tokenizer, PROMPT,
        memory_length=100, max_tokens=12, decode=DecodeConfig(),
    )  # fmt: skip
    ids = tokenizer.encode(PROMPT)
    for expected in written.ids:
        ids_1T = torch.from_numpy(ids[None].astype(np.int64))
        none = torch.full_like(ids_1T, -1)
        hidden, _ = model.decode(ids_1T, none, (), Memory.empty(model, 1, 0))
        best = int(model.logits(hidden[0, -1])[: tokenizer.size].argmax())
        assert best == expected
        ids = np.append(ids, expected)
    assert written.text == tokenizer.decode(written.ids)
    assert len(written.ids) == 12 or written.ended


def test_sampling_is_seeded_and_stays_in_the_text(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    def write(seed: int, **options: object) -> list[int]:
        decode = DecodeConfig(greedy=False, temperature=2.0, **options)
        return generate(
            make_model(), vocabulary, tokenizer, "",
            memory_length=8, max_tokens=30, decode=decode, seed=seed,
        ).ids.tolist()  # fmt: skip

    assert write(1) == write(1) != write(2)
    assert all(0 <= i < tokenizer.size for i in write(1))
    greedy = generate(
        make_model(), vocabulary, tokenizer, "",
        memory_length=8, max_tokens=30, decode=DecodeConfig(),
    )  # fmt: skip
    assert write(1, top_k=1) == write(2, top_p=1e-9) == greedy.ids.tolist()


def test_stops_at_the_end_of_text(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    model = make_model(tie_embeddings=False)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.weight[tokenizer.end_of_text] = 1.0
        hidden, _ = model.decode(torch.tensor([[5]]), torch.tensor([[-1]]))
        model.output.weight *= float(hidden.sum().sign())
    written = generate(
        model, vocabulary, tokenizer, tokenizer.decode([5]),
        memory_length=8, decode=DecodeConfig(),
    )  # fmt: skip
    assert written.ended and written.text == "" and len(written.ids) == 0


def test_losses_in_windows_with_memory_equal_one_pass(
    make_model: Callable, vocabulary: Vocabulary
) -> None:
    ids = np.random.default_rng(0).integers(0, 300, 53)
    model = make_model()
    one_lane = text_losses(model, vocabulary, ids, window=10, memory_length=100, batch_size=1)
    np.testing.assert_allclose(one_lane, whole_pass_losses(model, ids), atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_losses_without_memory_are_those_of_each_window(
    make_model: Callable, vocabulary: Vocabulary, batch_size: int
) -> None:
    ids = np.random.default_rng(0).integers(0, 300, 53)
    model = make_model()
    losses = text_losses(model, vocabulary, ids, window=10, memory_length=0, batch_size=batch_size)
    expected = [whole_pass_losses(model, ids[start : start + 11]) for start in range(0, 52, 10)]
    np.testing.assert_allclose(losses, np.concatenate(expected), atol=1e-9)


def test_stretches_side_by_side_score_every_token(
    make_model: Callable, vocabulary: Vocabulary
) -> None:
    ids = np.random.default_rng(0).integers(0, 300, 53)
    model = make_model()
    losses = text_losses(model, vocabulary, ids, window=10, memory_length=100, batch_size=3)
    stretches = [whole_pass_losses(model, ids[start : start + 19]) for start in (0, 18, 36)]
    np.testing.assert_allclose(losses, np.concatenate(stretches), atol=1e-9)


def test_refuses_settings_that_cannot_work(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    with pytest.raises(ConfigError, match="memory_length: got 0"):
        generate(make_model(), vocabulary, tokenizer, PROMPT, memory_length=0)
    with pytest.raises(ConfigError, match="max_tokens: got 0"):
        generate(make_model(), vocabulary, tokenizer, PROMPT, memory_length=4, max_tokens=0)
    with pytest.raises(DataError, match="at least 2"):
        text_losses(make_model(), vocabulary, np.array([1]), window=4, memory_length=0)
