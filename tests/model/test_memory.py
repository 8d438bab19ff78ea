"""Acting with cached keys and values equals recomputing from hidden states, and a full pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from db1.errors import ConfigError, DataError
from db1.model.positions import POSITION_ENCODINGS
from db1.model.transformer_xl import TransformerXL

OPTIONS = [
    {},
    {"same_length": False},
    {"normalization": "pre", "share_biases": False},
    {"memory_start": "zeros", "same_length": False},
    {"memory_start": "zeros", "normalization": "pre"},
    {"clamp_length": 3, "same_length": False},
    *({"position_encoding": name} for name in POSITION_ENCODINGS if name != "transformer_xl"),
    {"position_encoding": "rotary", "normalization": "pre", "memory_start": "zeros"},
    {"position_encoding": "alibi", "clamp_length": 3, "memory_start": "zeros"},
]


def draw(batch_size: int, num_tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ids and local positions."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 40, (batch_size, num_tokens), generator=generator)
    places = torch.randint(-1, 6, (batch_size, num_tokens), generator=generator)
    return ids, places


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("lengths", [[5, 1, 1, 9, 2], [1] * 12, [3, 8]])
def test_cached_equals_hidden_state_memory(make_model, options: dict, lengths: list[int]) -> None:
    model = make_model(**options)
    ids, places = draw(2, sum(lengths))
    cached, hidden_states, start = None, None, 0
    for length in lengths:
        stop = start + length
        part = (ids[:, start:stop], places[:, start:stop])
        got, cached = model.decode(*part, (), cached)
        with torch.no_grad():
            expected, hidden_states = model.recur(*part, (), hidden_states)
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
        assert int(cached.num_tokens.max()) <= model.config.memory_length
        start = stop


@pytest.mark.parametrize("same_length", [True, False])
def test_segments_equal_one_full_pass(make_model, make_batch, same_length: bool) -> None:
    model = make_model(memory_length=16, same_length=same_length)
    batch = make_batch(num_tokens=16, images=True)
    whole = model.hidden(batch)
    memory, parts = None, []
    for start, stop in [(0, 4), (4, 5), (5, 11), (11, 16)]:
        images = batch.images if start == 0 else ()
        if images:
            first = torch.arange(2)[:, None] * 4 + torch.arange(2)
            images = (type(images[0])(pixels=images[0].pixels, positions=first),)
        part, memory = model.decode(
            batch.ids[:, start:stop], batch.local_positions[:, start:stop], images, memory
        )
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_ragged_rows_equal_each_row_alone(make_model, options: dict) -> None:
    model = make_model(**options)
    steps = [[4, 2, 0], [1, 1, 1], [0, 3, 6], [7, 1, 0], [2, 2, 2]]
    rows = [draw(1, sum(step[row] for step in steps), seed=row) for row in range(3)]
    used, together = [0, 0, 0], model.new_memory(3, 6)
    alone = [model.new_memory(1, 6) for _ in range(3)]
    for step in steps:
        width = max(step)
        ids = torch.full((3, width), 7)
        places = torch.full((3, width), 3)
        for row, length in enumerate(step):
            if length:
                part = slice(used[row], used[row] + length)
                ids[row, -length:] = rows[row][0][0, part]
                places[row, -length:] = rows[row][1][0, part]
        hidden, together = model.decode(ids, places, (), together, torch.tensor(step))
        for row, length in enumerate(step):
            if length == 0:
                continue
            part = slice(used[row], used[row] + length)
            expected, alone[row] = model.decode(
                rows[row][0][:, part], rows[row][1][:, part], (), alone[row]
            )
            torch.testing.assert_close(hidden[row, -length:], expected[0], atol=1e-10, rtol=0)
            used[row] += length
        assert together.num_tokens.tolist() == [int(memory.num_tokens) for memory in alone]


@pytest.mark.parametrize("start", ["empty", "zeros"])
def test_reset_rows_forget(make_model, start: str) -> None:
    model = make_model(memory_start=start)
    _, old = model.decode(*draw(3, 5), (), model.new_memory(3, 6))
    memory = old.reset_rows(torch.tensor([False, True, False]))
    full = 6 if start == "zeros" else 5
    assert old.num_tokens.tolist() == [full] * 3
    assert memory.num_tokens.tolist() == [full, full if start == "zeros" else 0, full]
    new = draw(3, 4, seed=9)
    hidden, _ = model.decode(*new, (), memory)
    fresh, _ = model.decode(*new, (), None)
    kept, _ = model.decode(*new, (), old)
    torch.testing.assert_close(hidden[1], fresh[1], atol=1e-10, rtol=0)
    torch.testing.assert_close(hidden[[0, 2]], kept[[0, 2]], atol=1e-10, rtol=0)
    assert (kept[1] - fresh[1]).abs().max() > 1e-4


@pytest.mark.parametrize("start", ["empty", "zeros"])
def test_select_rows_reorders_and_adds_new_rows(make_model, start: str) -> None:
    model = make_model(memory_start=start)
    _, memory = model.decode(*draw(3, 5))
    new = draw(4, 3, seed=4)
    hidden, _ = model.decode(*new, (), memory.select_rows(torch.tensor([2, -1, 0, 2])))
    for row, source in [(0, 2), (2, 0), (3, 2)]:
        alone = memory.select_rows(torch.tensor([source]))
        expected, _ = model.decode(new[0][[row]], new[1][[row]], (), alone)
        torch.testing.assert_close(hidden[row], expected[0], atol=1e-10, rtol=0)
    fresh, _ = model.decode(new[0][[1]], new[1][[1]])
    torch.testing.assert_close(hidden[1], fresh[0], atol=1e-10, rtol=0)


def test_one_memory_can_be_continued_twice(make_model) -> None:
    model = make_model()
    _, memory = model.decode(*draw(2, 4))
    _, memory = model.decode(*draw(2, 1, seed=1), (), memory)
    continuations = [draw(2, 2, seed=seed) for seed in (2, 3, 2)]
    outputs = [model.decode(*tokens, (), memory)[0] for tokens in continuations]
    torch.testing.assert_close(outputs[0], outputs[2], atol=0, rtol=0)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


def test_memory_never_exceeds_its_length(make_model) -> None:
    model = make_model(same_length=False)
    memory = model.new_memory(2, 4)
    storage = 0
    for step in range(60):
        lengths = torch.tensor([1, 2]) if step % 5 == 0 else None
        _, memory = model.decode(*draw(2, 2, seed=step), (), memory, lengths)
        assert memory.filled <= 4
        assert int(memory.num_tokens.max()) <= 4
        assert memory.layer(0)[0].shape[2] <= 4
        storage = max(storage, memory._storage.columns.shape[4])
    assert storage < 30


def test_truncated_keeps_the_last_tokens_and_room(make_model) -> None:
    model = make_model(same_length=False)
    tokens = draw(2, 6)
    _, memory = model.decode(*tokens, (), model.new_memory(2, 6))
    short = memory.truncated(2)
    assert short.num_tokens.tolist() == [2, 2] and short.length == 6
    with torch.no_grad():
        _, states = model.recur(*tokens)
        expected, _ = model.recur(*draw(2, 3, seed=5), (), states[:, :, -2:])
    got, longer = model.decode(*draw(2, 3, seed=5), (), short)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
    assert longer.num_tokens.tolist() == [5, 5]


def test_memory_of_length_zero_sees_the_segment_only(make_model) -> None:
    model = make_model()
    first, memory = model.decode(*draw(2, 3), (), model.new_memory(2, 0))
    again, memory = model.decode(*draw(2, 3), (), memory)
    torch.testing.assert_close(first, again, atol=1e-10, rtol=0)
    assert memory.filled == 0


def test_memory_written_in_inference_mode_can_be_continued_outside(make_model) -> None:
    model = make_model()
    with torch.inference_mode():
        _, memory = model.decode(*draw(2, 3))
    hidden, _ = model.decode(*draw(2, 3, seed=1), (), memory)
    _, expected = model.decode(*draw(2, 3))
    expected, _ = model.decode(*draw(2, 3, seed=1), (), expected)
    torch.testing.assert_close(hidden, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("lengths", [[3, 1], [-1, 2], [2, 2, 2]])
def test_lengths_out_of_range_raise(make_model, lengths: list[int]) -> None:
    model: TransformerXL = make_model()
    with pytest.raises(DataError, match="lengths"):
        model.decode(*draw(2, 2), (), None, torch.tensor(lengths))


def test_negative_memory_length_raises(make_model) -> None:
    with pytest.raises(ConfigError, match="memory_length"):
        make_model().new_memory(1, -1)


def test_without_middle_keeps_both_ends_of_each_row(make_model) -> None:
    """With one layer, keys know their own token only: the memory is that of the kept tokens."""
    model = make_model(num_layers=1, memory_length=12, same_length=False)
    ids, places = draw(3, 10, seed=1)
    lengths, fronts = [10, 7, 4], [2, 3, 1]
    memory = model.new_memory(3, 12)
    _, memory = model.decode(ids, places, (), memory, torch.tensor(lengths))
    memory = memory.without_middle(5, torch.tensor(fronts))
    assert memory.num_tokens.tolist() == [5, 5, 4]
    new = draw(3, 2, seed=2)
    got, _ = model.decode(*new, (), memory)
    for row, (length, front) in enumerate(zip(lengths, fronts, strict=True)):
        first = range(10 - length, 10 - length + front)
        kept = [*first, *range(10 - (5 - front), 10)] if length > 5 else range(10 - length, 10)
        alone = model.new_memory(1, 12)
        _, alone = model.decode(ids[row : row + 1, kept], places[row : row + 1, kept], (), alone)
        expected, _ = model.decode(new[0][row : row + 1], new[1][row : row + 1], (), alone)
        torch.testing.assert_close(got[row], expected[0], atol=1e-10, rtol=0)


def test_limited_keeps_the_last_tokens_of_each_row(make_model) -> None:
    model = make_model(num_layers=1, memory_length=8, memory_start="zeros", same_length=False)
    ids, places = draw(2, 3, seed=3)
    _, memory = model.decode(ids, places, (), model.new_memory(2, 8))
    assert memory.num_tokens.tolist() == [8, 8]
    memory = memory.limited(torch.tensor([3, 2]))
    assert memory.num_tokens.tolist() == [3, 2] and memory.filled == 3
    new = draw(2, 1, seed=4)
    got, _ = model.decode(*new, (), memory)
    empty = make_model(num_layers=1, memory_length=8, memory_start="empty", same_length=False)
    empty.load_state_dict(model.state_dict())
    for row, count in ((0, 3), (1, 2)):
        alone = empty.new_memory(1, 8)
        tokens = slice(3 - count, 3)
        _, alone = empty.decode(
            ids[row : row + 1, tokens], places[row : row + 1, tokens], (), alone
        )
        expected, _ = empty.decode(new[0][row : row + 1], new[1][row : row + 1], (), alone)
        torch.testing.assert_close(got[row], expected[0], atol=1e-10, rtol=0)
