"""Tokenizer files -> the content of one tokenizer.json, whatever layout they have.

    a file                          tokenizer.json of the `tokenizers` library
    a folder with tokenizer.json    the same (any Hugging Face folder, db1's runs)
    vocab.json and merges.txt       GPT-2's layout (the released DB1 model)
    anything else of Hugging Face   sentencepiece models, vocab.txt: read by `transformers`

Which token ends a text is, in this order: `<|endoftext|>` where the vocabulary has it; the last
special token of the post-processor's template for one text. A folder whose tokenizer_config.json
or special_tokens_map.json names another `eos_token` gets such a template, so that the content
alone says it from then on (db1 never runs the post-processor).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from db1.errors import DataError, MissingExtra
from db1.files import read_text
from db1.json_shape import parse_json, parse_json_file

END_OF_TEXT = "<|endoftext|>"
FILE_NAME = "tokenizer.json"
VOCABULARY_FILE, MERGES_FILE = "vocab.json", "merges.txt"
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_FOREIGN = ("*.model", "vocab.txt", "tokenizer_config.json")


class LibraryPanic(Exception):
    """The `tokenizers` library gave up in the middle of its work; says where in one line."""


@contextmanager
def panics_raised() -> Iterator[None]:
    """Turns a panic of the `tokenizers` library within the block into a `LibraryPanic`.

    The library writes many lines about one to the process's standard errors; they are held back.
    Anything else that was written there in the meantime comes out when the block ends.

    Raises:
        LibraryPanic: The library panicked.
    """
    with tempfile.TemporaryFile() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:  # no Exception, so that nothing catches it by accident
            if type(error).__name__ != "PanicException":
                raise
            held.truncate(0)
            raise LibraryPanic(str(error).splitlines()[0][:200]) from None
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            if text := held.read():
                os.write(2, text)


def read_tokenizer(path: Path) -> tuple[str, str]:
    """The content of a tokenizer.json, and the path that errors name.

    Raises:
        DataError: There is no such file, or it cannot be read.
        MissingExtra: A layout that needs `transformers`.
    """
    if not path.is_dir():
        return _text_of(path), str(path)
    if (path / FILE_NAME).exists():
        content = _text_of(path / FILE_NAME)
        return _with_end(content, _named_end(path)), str(path / FILE_NAME)
    if (path / MERGES_FILE).exists():
        return _gpt2(path), str(path)
    if any(next(path.glob(pattern), None) for pattern in _FOREIGN):
        return _foreign(path), str(path)
    raise DataError(f"{path / FILE_NAME}: no such tokenizer file")


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that cuts text as GPT-2 does and knows the end of text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def end_of_text_id(tokenizer: Tokenizer, content: Mapping[str, Any]) -> int | None:
    """Id of the token that ends a text; None where the tokenizer does not say.

    Args:
        tokenizer: The tokenizer.
        content: Its parsed tokenizer.json.
    """
    for token in (END_OF_TEXT, _template_end(content.get("post_processor"))):
        found = None if token is None else tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    return None


def _text_of(file: Path) -> str:
    try:
        return read_text(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such tokenizer file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not a tokenizer file ({error})") from None


def _gpt2(folder: Path) -> str:
    try:
        model = models.BPE.from_file(str(folder / VOCABULARY_FILE), str(folder / MERGES_FILE))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(
            f"{folder}: {VOCABULARY_FILE} and {MERGES_FILE} are not a byte-level BPE ({error})"
        ) from None
    return _with_end(byte_level(model).to_str(), _named_end(folder))


def _foreign(folder: Path) -> str:
    """Reads the other layouts through transformers, which runs no code out of the folder."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra("transformers", "tokenizers", f"the tokenizer {folder}") from None
    try:
        loaded = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        content = loaded.backend_tokenizer.to_str()
    except Exception as error:  # whatever its readers raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}: transformers cannot read this tokenizer ({reason}); expected {FILE_NAME}, "
            "or the files of a Hugging Face tokenizer with a fast version"
        ) from None
    return _with_end(content, loaded.eos_token or loaded.sep_token)


def _named_end(folder: Path) -> str | None:
    """The `eos_token` that a Hugging Face folder names."""
    for name in _CONFIGS:
        try:
            named = parse_json_file(folder / name).get("eos_token")
        except (OSError, ValueError, AttributeError):
            continue
        token = named.get("content") if isinstance(named, dict) else named
        if isinstance(token, str):
            return token
    return None


def _with_end(content: str, end: str | None) -> str:
    """The content, saying that `end` ends a text where it does not say what does."""
    try:
        with panics_raised():
            tokenizer, parsed = Tokenizer.from_str(content), parse_json(content)
    except Exception:  # the caller says what is wrong with it
        return content
    end_id = None if end is None else tokenizer.token_to_id(end)
    if end_id is None or end_of_text_id(tokenizer, parsed) is not None:
        return content
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, end_id)]
    )
    return tokenizer.to_str()


def _template_end(processor: Any) -> str | None:
    """The special token that a post-processor puts after a text."""
    if not isinstance(processor, dict):
        return None
    for inner in reversed(processor.get("processors", [])):
        if (found := _template_end(inner)) is not None:
            return found
    if isinstance(processor.get("sep"), list):  # BERT's and RoBERTa's processors
        return str(processor["sep"][0])
    pieces = processor.get("single")
    last = pieces[-1] if isinstance(pieces, list) and pieces else None
    special = last.get("SpecialToken") if isinstance(last, dict) else None
    return str(special["id"]) if isinstance(special, dict) else None
