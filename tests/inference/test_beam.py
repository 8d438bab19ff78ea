"""Beam search against brute force over a tiny vocabulary, and against a plain one-prompt search."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from db1.errors import ConfigError, DataError
from db1.inference.beam import BeamConfig, beam_search
from db1.inference.state import DecodingState
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import TokenSegment

NUM_IDS, END = 4, 0


@dataclass(frozen=True)
class TableRows:
    """Every text has scores of its own, drawn from a generator seeded by the text."""

    texts: tuple[tuple[int, ...], ...]
    spread: float = 2.0

    @property
    def num_rows(self) -> int:
        return len(self.texts)

    def logits(self) -> torch.Tensor:
        draws = [np.random.default_rng([9, *text]).normal(size=NUM_IDS) for text in self.texts]
        return torch.tensor(np.array(draws) * self.spread)

    def grown(self, index_B: torch.Tensor) -> TableRows:
        grown = zip(self.texts, index_B.tolist(), strict=True)
        return replace(self, texts=tuple((*text, token) for text, token in grown))

    def selected(self, rows: torch.Tensor) -> TableRows:
        return replace(self, texts=tuple(self.texts[row] for row in rows.tolist()))


def log_probability(rows, text: tuple[int, ...]) -> float:
    total = 0.0
    for token in text:
        total += float(rows.logits().double().log_softmax(1)[0, token])
        rows = rows.grown(torch.tensor([token]))
    return total


def all_texts(rows, config: BeamConfig) -> dict[tuple[int, ...], float]:
    """Score of every text that ends, or is cut off, within `max_tokens`."""
    words = [i for i in range(NUM_IDS) if i != END]
    ending = [
        (*text, END)
        for length in range(config.max_tokens)
        for text in itertools.product(words, repeat=length)
    ]
    cut_off = itertools.product(words, repeat=config.max_tokens)
    scored = {}
    for text in [*ending, *cut_off]:
        scored[text] = log_probability(rows, text) / len(text) ** config.length_penalty
    return scored


def whole(hypothesis) -> tuple[int, ...]:
    return hypothesis.tokens + ((END,) if hypothesis.ended else ())


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("prompt", [1, 2, 3, 5])
def test_wide_beams_find_what_brute_force_finds(penalty: float, prompt: int) -> None:
    config = BeamConfig(num_beams=81, max_tokens=4, length_penalty=penalty, early=False)
    rows = TableRows(texts=((prompt,),))
    scored = all_texts(rows, config)
    best = max(scored, key=scored.__getitem__)
    found = beam_search(rows, END, config)[0]
    assert whole(found[0]) == best
    assert found[0].score == pytest.approx(scored[best])
    for hypothesis in found:
        text = whole(hypothesis)
        assert hypothesis.score == pytest.approx(scored[text])
        assert hypothesis.log_probability == pytest.approx(log_probability(rows, text))


def plain_search(rows, config: BeamConfig) -> tuple[int, ...]:
    """The definition, one prompt and one text at a time; searches on until the last token."""
    live, finished = [((), 0.0)], []
    for length in range(1, config.max_tokens + 1):
        grown = []
        for text, value in live:
            here = rows
            for token in text:
                here = here.grown(torch.tensor([token]))
            scores = here.logits().double().log_softmax(1)[0].tolist()
            finished.append(((*text, END), (value + scores[END]) / length**config.length_penalty))
            grown += [
                ((*text, token), value + score)
                for token, score in enumerate(scores)
                if token != END
            ]
        live = sorted(grown, key=lambda item: -item[1])[: config.num_beams]
    finished += [(text, v / config.max_tokens**config.length_penalty) for text, v in live]
    return max(finished, key=lambda item: item[1])[0]


@pytest.mark.parametrize("num_beams", [1, 2, 3])
def test_narrow_beams_do_what_the_definition_says(num_beams: int) -> None:
    config = BeamConfig(num_beams=num_beams, max_tokens=6, early=False)
    prompts = [TableRows(texts=((i,),), spread=1.0) for i in range(12)]
    together = TableRows(texts=tuple(p.texts[0] for p in prompts), spread=1.0)
    found = [whole(best[0]) for best in beam_search(together, END, config)]
    assert found == [plain_search(prompt, config) for prompt in prompts]
    assert len(set(found)) > 3, "texts that are all alike show little"


def test_an_early_end_returns_finished_texts_only() -> None:
    config = BeamConfig(num_beams=3, max_tokens=30)
    rows = TableRows(texts=tuple((i,) for i in range(8)), spread=1.0)
    for best in beam_search(rows, END, config):
        assert best and all(h.ended or len(h.tokens) == 30 for h in best)
        assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)


def test_real_rows_of_prompts_of_different_lengths_and_images() -> None:
    """Every text among five ids behind a real model; each row finds its own best one."""
    torch.manual_seed(3)
    sizes = {"num_layers": 2, "num_heads": 2, "width": 32, "init_std": 0.5, "vision_groups": 4}
    model = TransformerXL(ModelConfig(**sizes, memory_length=32), 12, range(5, 9)).double().eval()
    image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    prompts = [
        TokenSegment(ids=np.array([2, -1, -1, 3]), local_positions=np.full(4, -1), images=(image,)),
        TokenSegment(ids=np.array([4, 1]), local_positions=np.full(2, -1)),
        TokenSegment(ids=np.array([-1]), local_positions=np.full(1, -1), images=(image[:, :16],)),
    ]
    arguments = {"ids": range(NUM_IDS), "memory_length": 32}
    config = BeamConfig(num_beams=40, max_tokens=3, early=False)
    together = DecodingState.start(model, len(prompts), **arguments).read(prompts)
    found = [whole(best[0]) for best in beam_search(together, END, config)]
    for prompt, text in zip(prompts, found, strict=True):
        alone = DecodingState.start(model, 1, **arguments).read([prompt])
        scored = all_texts(alone, config)
        assert text == max(scored, key=scored.__getitem__)
        several = [[1, 0], [2, 2, 1, 0], [0]]
        values = alone.selected(torch.tensor([0, 0, 0])).log_probabilities(several)
        expected = [log_probability(alone, tuple(t)) for t in several]
        assert values.tolist() == pytest.approx(expected)


def test_refuses_bad_settings_and_broken_weights() -> None:
    for name, value in (("num_beams", 0), ("max_tokens", 0), ("length_penalty", -1.0)):
        with pytest.raises(ConfigError, match=f"{name}: got {value}"):
            BeamConfig(**{name: value})
    with pytest.raises(DataError, match="not numbers"):
        beam_search(TableRows(texts=((1,),), spread=float("nan")), END, BeamConfig())
