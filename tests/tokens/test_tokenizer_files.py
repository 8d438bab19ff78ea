"""Tokenizers of other projects: which token ends a text, and layouts that transformers reads."""

from __future__ import annotations

import builtins
import importlib.util
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from db1.errors import DataError, MissingExtra
from db1.tokens.text import TextTokenizer

needs_transformers = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "sentencepiece")),
    reason='not installed; pip install "db1[tokenizers]" runs it',
)
TEXTS = ["the cat sat on the mat", "a dog sat on the cat"]


def foreign(*special: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("eos", ["</s>", {"content": "</s>", "special": True}])
def test_a_folder_names_its_end_of_text(tmp_path: Path, name: str, eos: object) -> None:
    tokenizer = foreign("<s>", "</s>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="names no other end-of-text token"):
        TextTokenizer.load(tmp_path)
    (tmp_path / name).write_text(json.dumps({"eos_token": eos}))
    loaded = TextTokenizer.load(tmp_path)
    assert loaded.end_of_text == tokenizer.token_to_id("</s>")
    assert loaded.encode("the </s> cat").tolist().count(loaded.end_of_text) == 0
    copy = TextTokenizer(loaded.to_json())  # as in a run folder: the file alone says it
    assert copy.end_of_text == loaded.end_of_text and copy.fingerprint == loaded.fingerprint


def test_the_usual_end_of_text_comes_first(tmp_path: Path) -> None:
    """Chat models end turns with another token than documents."""
    tokenizer = foreign("<|endoftext|>", "<|im_end|>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    loaded = TextTokenizer.load(tmp_path)
    assert loaded.end_of_text == tokenizer.token_to_id("<|endoftext|>")
    assert loaded.to_json() == (tmp_path / "tokenizer.json").read_text()


@pytest.mark.parametrize("kind", ["template", "bert", "sequence"])
def test_post_processors_say_what_ends_a_text(tmp_path: Path, kind: str) -> None:
    tokenizer = foreign("<s>", "</s>")
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    bert = processors.BertProcessing(ids[1], ids[0])
    both = processors.Sequence([processors.ByteLevel(), template])
    tokenizer.post_processor = {"template": template, "bert": bert, "sequence": both}[kind]
    assert TextTokenizer(tokenizer.to_str()).end_of_text == ids[1][1]


@pytest.mark.slow
@needs_transformers
def test_a_sentencepiece_folder(tmp_path: Path) -> None:
    import sentencepiece

    (tmp_path / "corpus").write_text("\n".join(TEXTS * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus"), model_prefix=str(tmp_path / "spiece"), vocab_size=40,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "spiece.model").rename(folder / "spiece.model")
    config = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = TextTokenizer.load(folder)
    assert loaded.end_of_text == 1
    assert loaded.decode(loaded.encode("the cat sat")).strip() == "the cat sat"
    assert TextTokenizer(loaded.to_json()).fingerprint == loaded.fingerprint
    (folder / "spiece.model").write_bytes(b"no model")
    with pytest.raises(DataError, match="transformers cannot read this tokenizer"):
        TextTokenizer.load(folder)


def test_transformers_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name == "transformers":
            raise ImportError(name)
        return real(name, *rest, **named)

    (tmp_path / "spiece.model").write_bytes(b"")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r'pip install "db1\[tokenizers\]"'):
        TextTokenizer.load(tmp_path)
