from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from db1.errors import ConfigError
from db1.inference.decode import DecodeConfig, choose
from db1.inference.generate import Writer, generate
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

PROMPT = "pick up the blue key and"


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
        hidden, _ = model.decode(ids_1T, none, (), model.new_memory(1, 0))
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


GREEDY = DecodeConfig()


def recomputed(model, tokenizer: TextTokenizer, ids: np.ndarray, count: int) -> list[int]:
    """Greedy ids from hidden states alone: nothing projected is kept from token to token."""
    memory, segment = None, model.config.memory_length
    for start in range(0, len(ids) - 1, segment):
        piece = ids[None, start : min(start + segment, len(ids) - 1)]
        memory = model.recur(torch.from_numpy(piece), torch.full(piece.shape, -1), (), memory)[1]
    last, written = int(ids[-1]), []
    for _ in range(count):
        hidden, memory = model.recur(torch.tensor([[last]]), torch.tensor([[-1]]), (), memory)
        last = int(model.logits(hidden[0, -1])[: tokenizer.size].argmax())
        written.append(last)
    return written


@pytest.mark.parametrize("options", [{}, {"same_length": True}, {"memory_start": "zeros"}])
def test_a_prompt_longer_than_the_memory_reads_like_recomputed_hidden_states(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer, options: dict
) -> None:
    model = make_model(memory_length=7, tie_embeddings=False, **options)
    with torch.no_grad():
        model.output.weight[tokenizer.end_of_text] = 0  # some other score is above 0
    prompt = "go to the red ball and pick up the blue key; open the grey door"
    ids = tokenizer.encode(prompt).astype(np.int64)
    assert len(ids) > 14
    written = generate(
        model, vocabulary, tokenizer, prompt, memory_length=7, max_tokens=20, decode=GREEDY
    )
    expected = recomputed(model, tokenizer, ids, 20)
    assert written.ids.tolist() == expected
    assert len(set(written.ids.tolist())) >= 5, "a text that repeats itself shows little"


def test_samples_side_by_side_are_those_written_alone(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    writer = Writer(make_model(), vocabulary, tokenizer, memory_length=50)
    decode = DecodeConfig(greedy=False, temperature=3.0)
    writer.read(PROMPT)
    together = writer.write(max_tokens=25, decode=decode, seeds=[4, 5, 6, 7], stops=["e", "k"])
    alone = [
        generate(
            make_model(), vocabulary, tokenizer, PROMPT,
            memory_length=50, max_tokens=25, decode=decode, seed=seed, stops=["e", "k"],
        )
        for seed in (4, 5, 6, 7)
    ]  # fmt: skip
    assert [g.ids.tolist() for g in together] == [g.ids.tolist() for g in alone]
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({len(g.ids) for g in together}) > 1, "samples should end at different places"
    assert len({g.text for g in together}) > 1


def test_the_memory_carries_over_a_conversation(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    model = make_model()
    writer = Writer(model, vocabulary, tokenizer, memory_length=200)
    ids = np.empty(0, dtype=np.int64)
    for line in ("go to the key", " and open", " the door behind you"):
        writer.read(line)
        (written,) = writer.write(max_tokens=6, decode=GREEDY)
        ids = np.concatenate([ids, tokenizer.encode(line)])
        for expected in written.ids:
            places = torch.full((1, len(ids)), -1)
            empty = model.new_memory(1, 0)
            hidden, _ = model.decode(torch.from_numpy(ids[None]), places, (), empty)
            assert int(model.logits(hidden[0, -1])[: tokenizer.size].argmax()) == expected
            ids = np.append(ids, expected)
    writer.clear()
    writer.read(PROMPT)
    fresh = generate(
        model, vocabulary, tokenizer, PROMPT, memory_length=200, max_tokens=6, decode=GREEDY
    )
    assert writer.write(max_tokens=6, decode=GREEDY)[0].ids.tolist() == fresh.ids.tolist()


def test_a_stop_text_ends_the_writing_and_is_left_out(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    def write(**options: object):
        decode = DecodeConfig(greedy=False, temperature=2.0)
        return generate(
            make_model(), vocabulary, tokenizer, PROMPT,
            memory_length=50, max_tokens=25, decode=decode, seed=5, **options,
        )  # fmt: skip

    free = write()
    assert free.reason == "max_tokens" and not free.ended
    stop = free.text[10:13]
    stopped = write(stops=[stop, "never written"])
    assert stopped.reason == "stop"
    assert stopped.text == free.text[: free.text.find(stop)]
    assert len(stopped.ids) < len(free.ids)
    with pytest.raises(ConfigError, match="empty text"):
        write(stops=[""])


def test_streamed_pieces_join_to_the_text(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    pieces: dict[int, str] = {0: "", 1: ""}

    def shown(sample: int, piece: str) -> None:
        pieces[sample] += piece

    writer = Writer(make_model(), vocabulary, tokenizer, memory_length=50)
    decode = DecodeConfig(greedy=False, temperature=3.0)
    written = writer.write(max_tokens=50, decode=decode, seeds=[1, 2], stops=["th"], shown=shown)
    assert pieces == {0: written[0].text, 1: written[1].text}


def test_only_text_can_be_drawn(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    model = make_model(tie_embeddings=False)
    with torch.no_grad():
        places = torch.tensor([[-1]])
        hidden, _ = model.decode(torch.tensor([[5]]), places)
        model.output.weight[len(vocabulary.text_range()) :] = 100 * hidden[0, -1]
        assert int(model.logits(hidden[0, -1]).argmax()) not in vocabulary.text_range()
    for decode in (GREEDY, DecodeConfig(greedy=False, temperature=5.0)):
        written = generate(
            model, vocabulary, tokenizer, tokenizer.decode([5]),
            memory_length=8, max_tokens=30, decode=decode,
        )  # fmt: skip
        assert (written.ids < tokenizer.size).all()


PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [1, 3, 4]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.41}, [1, 3]),
        ({"top_p": 0.66}, [1, 3, 4]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"top_k": 4, "top_p": 0.85}, [1, 3, 4]),
        ({"top_k": 2, "top_p": 0.9}, [1, 3]),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_kept_ids_are_drawn_as_often_as_their_probabilities_say(
    options: dict, kept: list[int], temperature: float
) -> None:
    num_draws = 4_000
    expected = PROBABILITIES ** (1 / temperature)
    if temperature != 1.0 and "top_p" in options:  # the nucleus is that of the sharpened scores
        order = np.argsort(-expected)[: options.get("top_k", 5)]
        shares = expected[order] / expected[order].sum()
        kept = sorted(order[shares.cumsum() - shares < options["top_p"]].tolist())
    expected = np.where(np.isin(np.arange(5), kept), expected, 0)
    expected /= expected.sum()
    logits = torch.from_numpy(np.log(PROBABILITIES)).repeat(num_draws, 1)
    generators = [torch.Generator().manual_seed(seed) for seed in range(num_draws)]
    config = DecodeConfig(greedy=False, temperature=temperature, **options)
    counts = np.bincount(choose(logits, None, config, generators).numpy(), minlength=5)
    assert set(np.flatnonzero(counts)) == set(kept)
    deviation = np.sqrt(expected * (1 - expected) / num_draws)
    assert (np.abs(counts / num_draws - expected) <= 4 * deviation + 1e-12).all()


def test_refuses_settings_that_cannot_work(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    with pytest.raises(ConfigError, match="memory_length: got 0"):
        generate(make_model(), vocabulary, tokenizer, PROMPT, memory_length=0)
    with pytest.raises(ConfigError, match="max_tokens: got 0"):
        generate(make_model(), vocabulary, tokenizer, PROMPT, memory_length=4, max_tokens=0)
    with pytest.raises(ConfigError, match="num_samples: got 0"):
        Writer(make_model(), vocabulary, tokenizer, memory_length=4).write(seeds=[])
