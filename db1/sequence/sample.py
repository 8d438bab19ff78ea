"""Output of the data side: one training sequence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from db1.tokens.number_patch import NumberPatches

NO_LOCAL_POSITION = -1
"""Local position of tokens that get no local position embedding (all but control tokens)."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sequence of T + 1 tokens, cut for next-token prediction by `Batch` of `db1.model.batch`.

    Args:
        ids: int32 (T + 1,); `IMAGE_PLACEHOLDER` where an image patch stands, `NUMBER_PLACEHOLDER`
            where a number patch does.
        target_mask: bool (T + 1,); True where the token is to be predicted (action or text).
        local_positions: int32 (T + 1,); 1, 2, ... inside an observation, 0 for action tokens,
            `NO_LOCAL_POSITION` for text outside of control.
        images: uint8 arrays (H, W, C) in the order of their placeholders; each one stands for
            (H / patch) * (W / patch) placeholders, row-major.
        source: What the sequence was drawn from, for losses by task: a task id or text name.
        prompt_length: Number of leading tokens that belong to a prompt episode.
        target_weight: Weight of each of its targets in the loss.
        labels: int32 (T + 1,), what is to be predicted where it differs from what the model
            reads back (see `SequenceConfig.history_noise`); None: `ids`.
        numbers: Number patches in the order of their placeholders; None: there are none.
        instruction_length: Number of leading tokens that say the task in words.
    """

    ids: np.ndarray
    target_mask: np.ndarray
    local_positions: np.ndarray
    source: str
    images: tuple[np.ndarray, ...] = field(default=())
    prompt_length: int = 0
    target_weight: float = 1.0
    labels: np.ndarray | None = None
    numbers: NumberPatches | None = None
    instruction_length: int = 0

    @property
    def label_ids(self) -> np.ndarray:
        """`labels`, or `ids` where there are none; int32 (T + 1,)."""
        return self.ids if self.labels is None else self.labels
