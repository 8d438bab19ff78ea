"""The `data.pairs.<name>` section of a configuration: one set of images with texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from db1.errors import ConfigError, nearest
from db1.ranges import Checked, Count, Range, Weight
from db1.sequence.image_text import ImageTextConfig
from db1.store.pair_layout import CAPTION, KINDS, QUESTION
from db1.tokens.image_fit import Augmentation, check_fit

ANSWERS = ("soft_score", "frequency", "most_common")
DEFAULT_PROMPTS = {CAPTION: "Describe the image:", QUESTION: "Answer the question about the image:"}


@dataclass(frozen=True, kw_only=True)
class PairData(Checked):
    """One set of images with texts in the mixture.

    Args:
        weight: Its share of the sequences, relative to its neighbours.
        source: What `db1 import` makes the set from where it is not stored yet: a kind that needs
            no path (`easy-vqa`, `pictograms`), or `kind:path` (`coco:/data/coco`).
        kind: `caption` or `question`; the stores must be of this kind.
        train_splits: Splits to learn from.
        heldout_split: Split of the evaluation loss; None: the last images of the train splits.
        image_size: Side of the square pictures in pixels, a multiple of 16.
        fit: How a picture becomes a square: `crop`, `pad` or `stretch`.
        augment: Random changes to training pictures; None: none.
        prompt: Text in front of the image; None: the usual one of the kind.
        question_prefix: In front of a question.
        answer_prefix: Between question and answer.
        answers: Which of several answers is learnt: drawn by `soft_score` (min(n / 3, 1) for one
            that n people gave, as VQA accuracy has it), by `frequency`, or the `most_common`.
        pack: Put several items in one sequence instead of padding it.
        max_pixels: Larger images are an error.
    """

    weight: Weight = 1.0
    source: str = ""
    kind: str = CAPTION
    train_splits: tuple[str, ...] = ("train",)
    heldout_split: str | None = None
    image_size: Annotated[int, Range(least=1, most=16_384)] = 224
    fit: str = "crop"
    augment: Augmentation | None = field(default_factory=Augmentation)
    prompt: str | None = None
    question_prefix: str = "Question:"
    answer_prefix: str = "Answer:"
    answers: str = "soft_score"
    pack: bool = False
    max_pixels: Count = 64_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("kind", KINDS), ("answers", ANSWERS)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"{name}: got {value!r}, expected one of {list(known)}{nearest(value, known)}"
                )
        if not self.train_splits:
            raise ConfigError("train_splits: empty, expected at least one split")
        check_fit(self.image_size, self.fit)

    def texts(self) -> ImageTextConfig:
        """The fixed pieces of text around an image."""
        return ImageTextConfig(
            prompt=DEFAULT_PROMPTS[self.kind] if self.prompt is None else self.prompt,
            question_prefix=self.question_prefix,
            answer_prefix=self.answer_prefix,
        )
