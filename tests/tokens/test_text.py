"""The text tokenizer: it can write any text, and refuses what is no text."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db1.errors import ConfigError, DataError
from db1.tokens.text import END_OF_TEXT, TextTokenizer

TEXTS = ["the cat sat on the mat, the dog did not", "a b c the the the " * 3]
TOKENIZER = TextTokenizer.train(TEXTS, 300)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_decode_inverts_encode(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids.dtype == np.int32 and ids.ndim == 1
    assert TOKENIZER.decode(ids) == text
    assert not ids.size or (ids.min() >= 0 and ids.max() < TOKENIZER.size)
    assert TOKENIZER.end_of_text not in ids


def test_merges_are_learned_and_size_is_kept() -> None:
    assert 257 < TOKENIZER.size <= 300
    assert len(TOKENIZER.encode(" the")) == 1
    assert TextTokenizer.train(TEXTS, 257).size == 257


def test_training_twice_gives_the_same() -> None:
    assert TextTokenizer.train(iter(TEXTS), 300).fingerprint == TOKENIZER.fingerprint
    assert TextTokenizer.train(TEXTS, 270).fingerprint != TOKENIZER.fingerprint


def test_text_that_spells_the_end_of_text_does_not_end_it() -> None:
    ids = TOKENIZER.encode(f"a{END_OF_TEXT}b")
    assert TOKENIZER.end_of_text not in ids
    assert TOKENIZER.decode([TOKENIZER.end_of_text]) == END_OF_TEXT


def test_encode_many_equals_encode() -> None:
    texts = ["", "the cat", "dög 猫", END_OF_TEXT]
    for ids, text in zip(TOKENIZER.encode_many(texts), texts, strict=True):
        np.testing.assert_array_equal(ids, TOKENIZER.encode(text))
        assert ids.dtype == np.int32


def test_save_load_and_pickle_keep_the_fingerprint(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    TOKENIZER.save(tmp_path / "other.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "tokenizer.json"]
    content = json.loads((tmp_path / "other.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(content, indent=4))
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "other.json"):
        assert TextTokenizer.load(path).fingerprint == TOKENIZER.fingerprint
    copy = pickle.loads(pickle.dumps(TOKENIZER))
    assert copy.fingerprint == TOKENIZER.fingerprint
    np.testing.assert_array_equal(copy.encode("the cat"), TOKENIZER.encode("the cat"))


def test_stored_truncation_and_padding_are_not_obeyed(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["truncation"] = {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert len(TextTokenizer.load(tmp_path).encode("abcdefgh")) == 8


@pytest.mark.parametrize("content", ["", "no json", "{}", "[1]", '{"version": "1.0"}'])
def test_not_a_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="tokenizer.json: not a tokenizer file"):
        TextTokenizer.load(tmp_path)


def test_missing_file_binary_file_and_missing_end_of_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such tokenizer file"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a tokenizer file"):
        TextTokenizer.load(tmp_path / "binary.json")
    TOKENIZER.save(tmp_path)
    content = (tmp_path / "tokenizer.json").read_text().replace(END_OF_TEXT, "<|other|>")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=r"has no <\|endoftext\|> token"):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize("bad", [-1, TOKENIZER.size, 10**9])
def test_decoding_an_id_outside(bad: int) -> None:
    with pytest.raises(DataError, match=f"text id {bad}, expected 0..{TOKENIZER.size - 1}"):
        TOKENIZER.decode([0, bad])


@pytest.mark.parametrize(("text", "named"), [("a\ud800", "character 1"), (b"a", "got bytes")])
def test_encoding_no_text(text: object, named: str) -> None:
    for encode in (TOKENIZER.encode, lambda value: TOKENIZER.encode_many([value])):
        with pytest.raises(DataError, match=named):
            encode(text)


def test_training_on_nothing_or_too_small() -> None:
    for texts in ([], [""]):
        with pytest.raises(DataError, match="no text"):
            TextTokenizer.train(texts, 300)
    with pytest.raises(ConfigError, match="size 256, expected at least 257"):
        TextTokenizer.train(TEXTS, 256)


def test_a_panic_of_the_library_is_one_error_and_writes_nothing(tmp_path, capfd) -> None:
    content = json.loads(TextTokenizer.train(["abc abc abd"] * 9, 260).to_json())
    content["model"]["continuing_subword_prefix"] = "x" * 3_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="not a tokenizer file"):
        TextTokenizer.load(tmp_path)
    assert capfd.readouterr() == ("", "")
