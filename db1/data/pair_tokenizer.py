"""A tokenizer of the texts of images, for mixtures without a corpus of text.

It learns from prompts, questions, captions and answers of the training splits, each with a space
in front, as sequences have them. Pairs are stored as text, so that a new tokenizer asks for no new
import; the same pairs give the same tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator

from db1.data.config import DataConfig
from db1.data.pair_config import PairData
from db1.errors import ConfigError
from db1.store.pairs import PairStore
from db1.tokens.text import TextTokenizer


def train_pair_tokenizer(config: DataConfig, text_size: int) -> TextTokenizer:
    """Trains a byte-level BPE on the training texts of all sets of pairs.

    Args:
        config: The `data` section.
        text_size: Most ids.

    Raises:
        ConfigError: No set of pairs.
        DataError: A set is not stored, or has no text.
    """
    if not config.pairs:
        raise ConfigError("data.pairs is empty: no text to train a tokenizer on")
    return TextTokenizer.train(_texts(config), text_size)


def _texts(config: DataConfig) -> Iterator[str]:
    for name, data in config.pairs.items():
        yield from _fixed_texts(data)
        for split in data.train_splits:
            store = PairStore(config.pairs_folder(name) / split)
            for number in range(store.num_pairs):
                pair = store.pair(number)
                pieces = [pair.prompt, pair.question, *pair.texts]
                yield "".join(f" {piece.strip()}" for piece in pieces if piece)


def _fixed_texts(data: PairData) -> Iterator[str]:
    texts = data.texts()
    yield texts.prompt
    yield f" {texts.question_prefix} {texts.answer_prefix}"
