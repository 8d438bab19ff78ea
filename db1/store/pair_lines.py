"""One pair of an image and its texts, and its line in `pairs.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from db1.errors import DataError
from db1.json_shape import parse_json
from db1.store.pair_layout import CAPTION

_KEYS = ("image", "texts", "question", "prompt", "metadata")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Texts that belong to one image: captions, or a question with its answers.

    Args:
        image_name: Name of the image inside its set; pairs with one name share the image.
        texts: Captions of the image, or answers to the question: none where the split keeps them
            secret, and some may be empty (people who gave none).
        question: None for captions.
        prompt: Text in front of the image instead of the usual one.
        metadata: JSON-able.
    """

    image_name: str
    texts: tuple[str, ...] = ()
    question: str | None = None
    prompt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_texts(self) -> int:
        """Captions or answers that are not empty."""
        return sum(bool(text.strip()) for text in self.texts)


def pair_line(pair: Pair, kind: str, where: str) -> bytes:
    """Checks a pair and returns its line, ASCII.

    Raises:
        DataError: A text (other than an answer) that is empty, one that is no valid Unicode,
            captions with a question, a question without one, or metadata that JSON cannot hold;
            `where` names the pair.
    """
    if not pair.image_name:
        raise DataError(f"{where}: the image has no name")
    if kind == CAPTION:
        if pair.question is not None:
            raise DataError(f"{where}: a question {pair.question!r} in a set of captions")
        if not pair.texts:
            raise DataError(f"{where}: image {pair.image_name} has no caption")
    elif pair.question is None:
        raise DataError(f"{where}: image {pair.image_name} has no question")
    named = {"question": pair.question, "prompt": pair.prompt}
    texts = {f"text {i}": text for i, text in enumerate(pair.texts)}
    for name, text in {**named, **texts, "image name": pair.image_name}.items():
        if text is not None:
            may_be_empty = name in texts and kind != CAPTION
            _check_text(text, f"{where}: {name}", may_be_empty=may_be_empty)
    content: dict[str, Any] = {"image": pair.image_name, "texts": list(pair.texts)}
    content |= {key: text for key, text in named.items() if text is not None}
    if pair.metadata:
        content["metadata"] = dict(pair.metadata)
    try:
        return (json.dumps(content, allow_nan=False) + "\n").encode("ascii")
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: metadata that is not JSON-able ({error})") from None


def parse_line(line: bytes, where: str) -> Pair:
    """Inverse of `pair_line`.

    Raises:
        DataError: The line is no pair; `where` names it.
    """
    try:
        content = parse_json(line)
        if not content.keys() <= set(_KEYS):
            raise ValueError(f"keys {sorted(content)}")
        return Pair(
            image_name=_text(content["image"]),
            texts=tuple(_text(text) for text in content["texts"]),
            question=None if "question" not in content else _text(content["question"]),
            prompt=None if "prompt" not in content else _text(content["prompt"]),
            metadata=dict(content.get("metadata", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: no pair ({error}); the store is damaged, make it again"
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {type(value).__name__}, expected a str")
    return value


def _check_text(text: object, where: str, *, may_be_empty: bool) -> None:
    if not isinstance(text, str):
        raise DataError(f"{where}: got {type(text).__name__}, expected a str")
    if not may_be_empty and not text.strip():
        raise DataError(f"{where}: empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: character {error.start} is a lone surrogate, which is not valid Unicode"
        ) from None
