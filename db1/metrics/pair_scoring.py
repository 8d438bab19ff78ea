"""What decides the scores of captions and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from db1.errors import ConfigError, nearest
from db1.inference.image_text import WritingConfig
from db1.metrics.caption_measures import check_tokenizer
from db1.metrics.vqa import MODES
from db1.ranges import Checked, Count, Natural, NonNegative, Range


@dataclass(frozen=True, kw_only=True)
class PairScoring(Checked):
    """What decides the scores of captions and answers.

    Args:
        split: Split to score on; None: `test`, else what the run held out.
        max_captions: Images of each set, evenly spread; None: all.
        max_questions: Questions of each set, evenly spread; None: all.
        beams: Of captions; 1: greedy.
        length_penalty: Of the beam search.
        closed_answers: Choose among so many most frequent training answers; 0: write freely.
        vqa_mode: Of the accuracy, `official` or `evalai`.
        tokenizer: Of captions: `auto`, `ptb` or `plain`.
        java: Run METEOR and SPICE where they can run.
    """

    split: str | None = None
    max_captions: Count | None = None
    max_questions: Count | None = None
    beams: Annotated[int, Range(least=1, most=4_096)] = 3
    length_penalty: NonNegative = 1.0
    closed_answers: Natural = 0
    vqa_mode: str = "official"
    tokenizer: str = "auto"
    java: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vqa_mode not in MODES:
            raise ConfigError(
                f"vqa_mode: got {self.vqa_mode!r}, expected one of {MODES}"
                f"{nearest(self.vqa_mode, MODES)}"
            )
        check_tokenizer(self.tokenizer)
        self.captions()

    def captions(self) -> WritingConfig:
        """How captions are written."""
        return WritingConfig(beams=self.beams, length_penalty=self.length_penalty)

    def answers(self) -> WritingConfig:
        """How free answers are written."""
        return WritingConfig(max_tokens=16)
