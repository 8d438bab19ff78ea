"""Stores that do not share a vocabulary are no mixture."""

from pathlib import Path

import numpy as np
import pytest

from db1.data.build import DataConfig, SourceFactory, TextData
from db1.errors import DataError
from db1.sequence.episode import SequenceConfig
from db1.store.document_writer import DocumentWriter
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig


def corpus(folder: Path, tokenizer: TextTokenizer) -> None:
    folder.mkdir(parents=True)
    tokenizer.save(folder / "tokenizer.json")
    with DocumentWriter(
        folder / "train", np.uint16, tokenizer=tokenizer.fingerprint, text_size=300
    ) as writer:
        writer.append(np.arange(200) % tokenizer.size)


def factory(root: Path, text_size: int = 300) -> SourceFactory:
    config = DataConfig(root=root, text={"one": TextData(), "two": TextData()})
    vocabulary = Vocabulary(VocabularyConfig(text_size=text_size))
    return SourceFactory(config, SequenceConfig(length=32), vocabulary, 0)


def test_corpora_of_two_tokenizers(tmp_path: Path) -> None:
    one = TextTokenizer.train(["in the beginning was the word"] * 9, 300)
    two = TextTokenizer.train(["and the earth was without form"] * 9, 300)
    corpus(tmp_path / "text/one", one)
    corpus(tmp_path / "text/two", two)
    with pytest.raises(DataError, match=r"two/train.*tokenizer"):
        factory(tmp_path).mixture(10)


def test_a_tokenizer_beyond_the_vocabulary(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train(["in the beginning was the word"] * 9, 280)
    corpus(tmp_path / "text/one", tokenizer)
    corpus(tmp_path / "text/two", tokenizer)
    factory(tmp_path).mixture(10)
    with pytest.raises(DataError, match=f"of {tokenizer.size} ids, expected at most .*260"):
        factory(tmp_path, text_size=260)
