"""Settings that decide the scores of captions and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from db1.errors import check_one_of
from db1.metrics.caption_measures import check_tokenizer
from db1.metrics.vqa import MODES
from db1.options import option
from db1.ranges import Checked, Count, Natural, NonNegative, Range

if TYPE_CHECKING:
    from db1.inference.image_text import WritingConfig

PAIRS_PANEL = "Captions and questions about held-out images"
"""Heading of its options on the command line."""


@dataclass(frozen=True, kw_only=True)
class PairScoring(Checked):
    """Settings that decide the scores of captions and answers.

    Args:
        split: Split to score on; None: `test`, else what the run held out.
        max_captions: Images of each set, evenly spread; None: all.
        max_questions: Questions of each set, evenly spread; None: all.
        beams: Of captions; 1: greedy.
        length_penalty: Of the beam search.
        closed_answers: Choose among so many most frequent training answers; 0: write freely.
        vqa_mode: Of the accuracy, `official` or `evalai`.
        tokenizer: Of captions: `auto`, `ptb` or `plain`.
        java: Run Run METEOR and SPICE where they can run.
    """

    split: str | None = option(
        None,
        "Split to score; default: test, else what was held out.",
        panel=PAIRS_PANEL,
        name="pair_split",
    )
    max_captions: Count | None = option(None, "Images per set; default: all.", panel=PAIRS_PANEL)
    max_questions: Count | None = option(
        None, "Questions per set; default: all.", panel=PAIRS_PANEL
    )
    beams: Annotated[int, Range(least=1, most=4_096)] = option(
        3, "Beams of the search for captions; 1: greedy.", panel=PAIRS_PANEL
    )
    length_penalty: NonNegative = 1.0
    closed_answers: Natural = option(
        0,
        "Choose among this many frequent training answers; 0: write freely.",
        panel=PAIRS_PANEL,
    )
    vqa_mode: str = option("official", "VQA accuracy: official or evalai.", panel=PAIRS_PANEL)
    tokenizer: str = option(
        "auto",
        "Tokenizer of captions: ptb, plain, or auto (ptb where Java is installed).",
        panel=PAIRS_PANEL,
        name="caption_tokenizer",
    )
    java: bool = option(
        True, "Run METEOR and SPICE where they can run.", panel=PAIRS_PANEL, two_way=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("vqa_mode", self.vqa_mode, MODES)
        check_tokenizer(self.tokenizer)

    def captions(self) -> WritingConfig:
        """Settings for writing captions."""
        from db1.inference.image_text import WritingConfig

        return WritingConfig(beams=self.beams, length_penalty=self.length_penalty)

    def answers(self) -> WritingConfig:
        """Settings for writing free answers."""
        from db1.inference.image_text import WritingConfig

        return WritingConfig(max_tokens=16)
