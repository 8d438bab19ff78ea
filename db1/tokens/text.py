"""Text <-> tokenizer ids: a byte-level BPE that can write any text.

The ids here are the tokenizer's own, [0, size); `vocabulary.py` places them in the id space.

Source: Radford et al. 2019, section 2.2 (byte-level BPE); the released DB1 model uses a GPT-2
byte-level BPE of 32,000 ids with `<|endoftext|>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from db1.errors import ConfigError, DataError
from db1.tokens.tokenizer_files import (
    END_OF_TEXT,
    FILE_NAME,
    LibraryPanic,
    byte_level,
    end_of_text_id,
    panics_raised,
    read_tokenizer,
)

_LONG_WORD = re.compile(r"\S{1025,}|\s{1025,}")
_WORD_PIECE = 1_024
MIN_SIZE = 257
"""The 256 bytes and the end of text."""


class TextTokenizer:
    """Encodes text as ids and back; `decode(encode(text)) == text` for byte-level BPE.

    A text that merely spells `<|endoftext|>` is encoded as ordinary text; only `end_of_text`
    itself ends a document. Foreign tokenizers may lose white space or accents on the way back.

    Args:
        content: Contents of a tokenizer.json of the `tokenizers` library.
        where: Named in errors.

    Attributes:
        size: Number of ids.
        end_of_text: Id that ends a document.
        fingerprint: sha256 (hex) of the tokenizer's JSON with sorted keys and no spaces, so that
            neither a reformatted file nor another library version changes it.

    Raises:
        DataError: `content` is no tokenizer, or it has no `<|endoftext|>`.
    """

    def __init__(self, content: str, where: str = FILE_NAME) -> None:
        try:
            parsed = json.loads(content)
            with panics_raised():
                self._tokenizer = Tokenizer.from_str(content)
        except Exception as error:  # the library raises a bare one
            raise DataError(
                f"{where}: not a tokenizer file ({error}); expected a tokenizer.json of the "
                "tokenizers library"
            ) from None
        self._content, self._where = content, where
        self._has_regex = '"Regex"' in content
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        end_of_text = end_of_text_id(self._tokenizer, parsed)
        if end_of_text is None:
            raise DataError(
                f"{where}: the tokenizer has no {END_OF_TEXT} token, and names no other "
                "end-of-text token (eos_token of a tokenizer_config.json beside it)"
            )
        self.end_of_text = end_of_text
        self.size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"))
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextTokenizer:
        """Reads a tokenizer.json, or a Hugging Face folder (see `tokenizer_files.py`).

        Raises:
            DataError: There is no such file, or it is no tokenizer.
            MissingExtra: A folder that only `transformers` can read.
        """
        content, where = read_tokenizer(Path(path))
        return cls(content, where=where)

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> TextTokenizer:
        """Learns a byte-level BPE.

        Args:
            texts: Documents; read once.
            size: Largest number of ids, at least 257; a small corpus gives fewer.

        Raises:
            ConfigError: `size` is too small.
            DataError: There is no text.
        """
        if size < MIN_SIZE:
            raise ConfigError(
                f"tokenizer size {size}, expected at least {MIN_SIZE} (256 bytes + 1)"
            )
        tokenizer = byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        counter = _Counter(texts)
        tokenizer.train_from_iterator(iter(counter), trainer)
        if counter.num_characters == 0:
            raise DataError("no text to train a tokenizer on")
        return cls(tokenizer.to_str())

    def to_json(self) -> str:
        """The content of its tokenizer.json."""
        return self._content

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON to a file (or to tokenizer.json in an existing folder) in one move."""
        file = Path(path)
        file = file / FILE_NAME if file.is_dir() else file
        temporary = file.with_name(f"{file.name}.tmp{os.getpid()}")
        temporary.write_text(self._content, encoding="utf-8")
        os.replace(temporary, file)

    def save_gpt2(self, folder: str | os.PathLike[str]) -> None:
        """Writes GPT-2's vocab.json and merges.txt to an existing folder."""
        self._tokenizer.model.save(str(folder))

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids, int32 (num_tokens,); no end of text is added.

        Raises:
            DataError: Not a str, or one that has no UTF-8 (a lone surrogate).
        """
        _check_text(text)
        with self._no_panic():
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int32)

    def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes texts on several threads; equals `encode` of each, int32 (num_tokens,)."""
        for text in texts:
            _check_text(text)
        with self._no_panic():
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    @cached_property
    def may_lose_text(self) -> bool:
        """True when some characters have no ids; False for a tokenizer that knows all bytes."""
        pre_tokenizer = json.dumps(json.loads(self._content).get("pre_tokenizer"))
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        if '"ByteLevel"' in pre_tokenizer:
            return not all(byte in vocabulary for byte in pre_tokenizers.ByteLevel.alphabet())
        has_bytes = getattr(self._tokenizer.model, "byte_fallback", False)
        return not (has_bytes and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)))

    def lost_characters(self, texts: Sequence[str]) -> np.ndarray:
        """Characters of each text, blanks aside, that stand in no id or in the unknown one.

        Args:
            texts: The texts.

        Returns:
            int64 (num_texts,).
        """
        if not self.may_lose_text:
            return np.zeros(len(texts), dtype=np.int64)
        for text in texts:
            _check_text(text)
        unknown = self._unknown_id()
        with self._no_panic():
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        lost = np.zeros(len(texts), dtype=np.int64)
        for number, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            is_lost = np.array([not character.isspace() for character in text], dtype=bool)
            for identity, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if identity != unknown:
                    is_lost[start:end] = False
            lost[number] = int(is_lost.sum())
        return lost

    def _unknown_id(self) -> int | None:
        """The id that stands for all that has none; None where there is no such id."""
        model = json.loads(self._content).get("model") or {}
        name = model.get("unk_token")
        if isinstance(name, str):
            return self._tokenizer.token_to_id(name)
        return model["unk_id"] if isinstance(model.get("unk_id"), int) else None

    @contextmanager
    def _no_panic(self) -> Iterator[None]:
        """Turns a panic of the library (a regular expression that gives up) into a DataError."""
        if not self._has_regex:
            yield
            return
        try:
            with panics_raised():
                yield
        except LibraryPanic as panic:
            raise DataError(
                f"{self._where}: the tokenizer fails on a text of this kind ({panic}); its "
                "regular expression needs too many steps, take another tokenizer or leave that "
                "text out"
            ) from None

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """Ids -> text; bytes that are no UTF-8 become U+FFFD, `end_of_text` shows as its name.

        Raises:
            DataError: An id outside [0, size).
        """
        ids = np.asarray(ids, dtype=np.int64).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= self.size):
            bad = ids[(ids < 0) | (ids >= self.size)][0]
            raise DataError(f"text id {bad}, expected 0..{self.size - 1}")
        return self._tokenizer.decode(ids.tolist(), skip_special_tokens=False)

    def __getstate__(self) -> dict[str, str]:
        return {"content": self._content}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["content"])


class _Counter:
    """Passes texts on, checked, and counts their characters.

    Words of more than 1,024 characters (a genome, a picture in base64) come in pieces: the time
    that the trainer needs grows with the square of a word's length.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.num_characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            _check_text(text)
            self.num_characters += len(text)
            yield from _with_short_words(text)


def _with_short_words(text: str) -> Iterator[str]:
    """The text in parts that end inside long words, or whole where it has none."""
    start = 0
    for word in _LONG_WORD.finditer(text):
        for end in range(word.start() + _WORD_PIECE, word.end(), _WORD_PIECE):
            yield text[start:end]
            start = end
    yield text[start:]


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise DataError(f"text: got {type(text).__name__}, expected a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"text: character {error.start} is a lone surrogate, which is not valid Unicode"
        ) from None
