"""An image with its texts <-> ids. Training data and answering both go through this file.

    caption    prompt | image patches (row-major) | caption                          | end of text
    question   prompt | image patches (row-major) | "Question:" question | "Answer:" answer | end
    target       .              .                             .               yes        yes

No token has a local position. Each piece of text is encoded by itself, with a space in front
unless it starts the sequence, so that what stands before the answer has the same ids whether the
answer follows (training) or is to be written (`encode_prompt`).

A sequence has exactly T + 1 tokens: one item and separators after it, or several items (`pack`).
Texts that do not fit are cut at their ends, the longest first: of two items, or of a question and
its answer, the short one stays whole. A cut caption or answer lacks its end of text, so that
stopping in the middle is not learnt.

Source: Reed et al. 2022, sections 2.1 and 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from db1.errors import ConfigError, DataError
from db1.sequence.segment import TokenSegment, fit
from db1.tokens.spec import PATCH_SIZE, num_patches
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary

MIN_TEXT_TOKENS = 8
"""Tokens of question and answer that must fit after the prompt and the image."""


@dataclass(frozen=True, kw_only=True)
class ImageTextConfig:
    """Fixed pieces of text around an image.

    Args:
        prompt: In front of the image; an item's own prompt takes its place.
        question_prefix: In front of a question.
        answer_prefix: Between question and answer.
    """

    prompt: str = "Describe the image:"
    question_prefix: str = "Question:"
    answer_prefix: str = "Answer:"


@dataclass(frozen=True, kw_only=True)
class ImageText:
    """One item to encode.

    Args:
        image: uint8 (H, W, C), sides multiples of the patch size.
        text: Caption, or answer to the question.
        question: None: a caption.
        prompt: Instead of the usual prompt; "": none.
    """

    image: np.ndarray
    text: str
    question: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """The ids of one item: head (prompt and image), question, cue (answer prefix), target."""

    head: np.ndarray
    question: np.ndarray
    cue: np.ndarray
    target: np.ndarray
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.head) + len(self.question) + len(self.cue) + len(self.target)

    @property
    def num_fixed(self) -> int:
        return len(self.head) + len(self.cue)

    def cut_to(self, num_tokens: int) -> _Pieces:
        """Cuts question and target, the longer one first, until `num_tokens` are left."""
        room = num_tokens - self.num_fixed
        num_question = min(len(self.question), max(room // 2, room - len(self.target)))
        return replace(
            self,
            question=self.question[:num_question],
            target=self.target[: room - num_question],
        )


class ImageTextCodec:
    """Encodes captions and questions about images.

    Args:
        vocabulary: Id ranges.
        tokenizer: Text <-> tokenizer ids.
        config: Fixed pieces of text.
        patch_size: Side of an image patch in pixels.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        config: ImageTextConfig | None = None,
        patch_size: int = PATCH_SIZE,
    ) -> None:
        self.config = config or ImageTextConfig()
        self.tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._patch_size = patch_size
        self._end = vocabulary.text_ids(np.array([tokenizer.end_of_text]))
        self._usual_prompt = self._ids(self.config.prompt, is_start=True)
        self._question_prefix = self._ids(self.config.question_prefix, is_start=False)
        self._answer_prefix = self._ids(self.config.answer_prefix, is_start=False)

    def check_room(self, image_height: int, image_width: int, length: int) -> None:
        """Checks that images of a size leave room for text in a sequence.

        Args:
            image_height: In pixels.
            image_width: In pixels.
            length: T, tokens of a sequence that the model sees.

        Raises:
            ConfigError: They do not.
        """
        side = self._patch_size
        if image_height % side or image_width % side:
            raise ConfigError(
                f"image_size: got {image_height} x {image_width}, expected multiples of "
                f"model.patch_size {side}"
            )
        patches = num_patches(image_height, image_width, side)
        fixed = len(self._usual_prompt) + len(self._question_prefix) + len(self._answer_prefix)
        if patches + fixed + MIN_TEXT_TOKENS > length + 1:
            raise ConfigError(
                f"image_size: an image of {image_height} x {image_width} pixels takes {patches} "
                f"tokens and the texts around it {fixed}, which leaves less than "
                f"{MIN_TEXT_TOKENS} of the {length + 1} tokens of a sequence for its text; make "
                "image_size smaller or sequence.length larger"
            )

    def num_tokens(self, item: ImageText) -> int:
        """Tokens of an item that is not cut, its end of text included."""
        return len(self._pieces(item))

    def encode(self, items: Sequence[ImageText], length: int, source: str) -> TokenSegment:
        """Encodes one or more items as one sequence of exactly `length` + 1 tokens.

        Args:
            items: At least one. Where their texts do not fit together, the longest are cut.
            length: T, tokens of the sequence that the model sees.
            source: Name of the source.

        Raises:
            DataError: The images and prompts alone do not fit, or a text cannot be encoded.
        """
        whole = [self._pieces(item) for item in items]
        limits = _limits(whole, length + 1)
        pieces = [piece.cut_to(limit) for piece, limit in zip(whole, limits, strict=True)]
        ids = np.concatenate([_joined(piece) for piece in pieces])
        encoded = TokenSegment.without_positions(
            ids,
            target_mask=np.concatenate([_targets(piece) for piece in pieces]),
            images=tuple(piece.image for piece in pieces),
            source=source,
            patch_size=self._patch_size,
            num_cut=sum(map(len, whole)) - len(ids),
        )
        return fit(encoded, length + 1, self._vocabulary.separator)

    def encode_prompt(
        self,
        image: np.ndarray,
        question: str | None = None,
        prompt: str | None = None,
        length: int | None = None,
    ) -> TokenSegment:
        """Encodes what stands before a caption (or the answer to a question).

        Args:
            image: uint8 (H, W, C), sides multiples of the patch size.
            question: None: a caption is to be written.
            prompt: Instead of the usual prompt; "": none.
            length: Tokens of a training sequence. A question that leaves less than
                `MIN_TEXT_TOKENS` of them for the answer is cut at its end; None: never cut.

        Raises:
            DataError: An image of another kind, a text that cannot be encoded, or no room for the
                image and the texts around it.
        """
        pieces = self._pieces(ImageText(image=image, text="", question=question, prompt=prompt))
        room = len(pieces) if length is None else length + 1 - pieces.num_fixed - MIN_TEXT_TOKENS
        if room < 0:
            raise DataError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels and the texts around it "
                f"take {pieces.num_fixed} tokens, which leaves less than {MIN_TEXT_TOKENS} of a "
                f"sequence of {length}; use a smaller image"
            )
        num_cut = max(0, len(pieces.question) - room)
        question_ids = pieces.question[: len(pieces.question) - num_cut]
        ids = np.concatenate([pieces.head, question_ids, pieces.cue])
        return TokenSegment.without_positions(
            ids, images=(pieces.image,), patch_size=self._patch_size, num_cut=num_cut
        )

    def _pieces(self, item: ImageText) -> _Pieces:
        image = _checked_image(item.image)
        patches = num_patches(*image.shape[:2], self._patch_size)
        prompt = self._usual_prompt
        if item.prompt is not None:
            prompt = self._ids(item.prompt, is_start=True)
        question = cue = np.empty(0, dtype=np.int32)
        if item.question is not None:
            asked = self._ids(item.question, is_start=False)
            question, cue = np.concatenate([self._question_prefix, asked]), self._answer_prefix
        return _Pieces(
            head=np.concatenate([prompt, np.full(patches, IMAGE_PLACEHOLDER, dtype=np.int32)]),
            question=question,
            cue=cue,
            target=np.concatenate([self._ids(item.text, is_start=False), self._end]),
            image=image,
        )

    def _ids(self, text: str, *, is_start: bool) -> np.ndarray:
        """Vocabulary ids of a piece of text without the white space around it."""
        text = text.strip()
        if text and not is_start:
            text = f" {text}"
        return self._vocabulary.text_ids(self.tokenizer.encode(text))


def _limits(pieces: Sequence[_Pieces], num_tokens: int) -> list[int]:
    """Most tokens of each item: all share what the texts may take, short ones need less of it.

    Raises:
        DataError: Nothing is left for a target.
    """
    texts = [len(piece) - piece.num_fixed for piece in pieces]
    room = num_tokens - sum(piece.num_fixed for piece in pieces)
    if room < len(pieces):
        raise DataError(
            f"{len(pieces)} image(s) and their prompts take {num_tokens - room} tokens, more than "
            f"a sequence of {num_tokens} can hold with text; use smaller images or a longer "
            "sequence"
        )
    if sum(texts) <= room:
        return [len(piece) for piece in pieces]
    allowed = [0] * len(texts)
    for rank, i in enumerate(sorted(range(len(texts)), key=texts.__getitem__)):
        allowed[i] = min(texts[i], room // (len(texts) - rank))
        room -= allowed[i]
    return [piece.num_fixed + count for piece, count in zip(pieces, allowed, strict=True)]


def _joined(piece: _Pieces) -> np.ndarray:
    return np.concatenate([piece.head, piece.question, piece.cue, piece.target])


def _targets(piece: _Pieces) -> np.ndarray:
    mask = np.zeros(len(piece), dtype=bool)
    mask[len(piece) - len(piece.target) :] = True
    return mask


def _checked_image(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(f"image: got {image.dtype} {image.shape}, expected uint8 (H, W, C)")
    return image
