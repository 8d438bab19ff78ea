"""Text shown piece by piece is the text as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from db1.errors import ConfigError
from db1.inference.stream import TextStream
from db1.tokens.text import TextTokenizer


def _pieces(tokenizer: TextTokenizer, ids: np.ndarray, stops: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(tokenizer, stops)
    pieces = [stream.add(int(i)) for i in ids]
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text
    return pieces


def test_a_character_is_shown_with_its_last_byte(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("a🦕é")
    assert len(ids) == 1 + 4 + 2  # the tokenizer learned no such characters: one id a byte
    assert _pieces(tokenizer, ids) == ["a", "", "", "", "🦕", "", "é", ""]


def test_broken_bytes_are_shown_like_in_the_whole_text(tokenizer: TextTokenizer) -> None:
    dinosaur = tokenizer.encode("🦕")
    ids = np.concatenate([dinosaur[:2], tokenizer.encode("a"), dinosaur[:3]])
    assert "".join(_pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_random_ids_join_to_the_whole(tokenizer: TextTokenizer, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, tokenizer.size, 60)
    ids = ids[ids != tokenizer.end_of_text]
    whole = tokenizer.decode(ids)
    assert "".join(_pieces(tokenizer, ids)) == whole
    start = int(generator.integers(0, len(whole) - 4))
    stops = (whole[start : start + 3], whole[start + 1 : start + 3] + "no such text")
    expected = whole[: whole.find(stops[0])]
    assert "".join(_pieces(tokenizer, ids, stops)) == expected


def test_the_start_of_a_stop_text_is_held_back(tokenizer: TextTokenizer) -> None:
    ids = np.concatenate([tokenizer.encode(c) for c in "xaabaac"])
    assert _pieces(tokenizer, ids, ("aac",)) == ["x", "", "", "aab", "", "", "", ""]
    assert "".join(_pieces(tokenizer, ids[:-1], ("aac",))) == "xaabaa"


def test_nothing_is_shown_behind_a_stop(tokenizer: TextTokenizer) -> None:
    stream = TextStream(tokenizer, ("b",))
    shown = [stream.add(int(tokenizer.encode(c)[0])) for c in "abca"]
    assert shown == ["a", "", "", ""] and stream.stopped and stream.text == "a"


def test_refuses_an_empty_stop(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ConfigError, match="stop: got an empty text"):
        TextStream(tokenizer, ("a", ""))
