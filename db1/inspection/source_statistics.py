"""Statistics of some sequences of one source: shares of kinds, bins used by each field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.inspection.describe import Description
from db1.inspection.walk import ACTION_NUMBER, NUMBER, PADDING


@dataclass(frozen=True, kw_only=True)
class FieldBins:
    """Bins of one number field.

    Args:
        name: Observation key, or `action`.
        is_action: Whether it is the action.
        counts: int64 (num_bins,), how often each bin occurs; of actions those to be predicted.
    """

    name: str
    is_action: bool
    counts: np.ndarray

    @property
    def num_numbers(self) -> int:
        """Numbers that were counted."""
        return int(self.counts.sum())

    @property
    def dead_share(self) -> float:
        """Share of the bins that no number falls in."""
        return float((self.counts == 0).mean())

    @property
    def edge_share(self) -> float:
        """Share of the numbers in the first or the last bin."""
        ends = int(self.counts[0]) + (int(self.counts[-1]) if len(self.counts) > 1 else 0)
        return ends / max(1, self.num_numbers)


@dataclass(frozen=True, kw_only=True)
class SourceStatistics:
    """Some sequences of one source.

    Args:
        name: Task id or corpus.
        num_samples: Sequences drawn.
        num_tokens: Their tokens.
        kinds: Tokens by kind.
        num_targets: Tokens that the loss falls on.
        num_steps: Whole steps of control.
        num_without_targets: Sequences from which nothing is learned.
        fields: Number fields, where the source has some.
    """

    name: str
    num_samples: int
    num_tokens: int
    kinds: dict[str, int]
    num_targets: int
    num_steps: int
    num_without_targets: int
    fields: tuple[FieldBins, ...]

    @property
    def padding_share(self) -> float:
        """Share of the tokens that are padding."""
        return self.kinds.get(PADDING, 0) / max(1, self.num_tokens)

    @property
    def target_share(self) -> float:
        """Share of the tokens that the loss falls on."""
        return self.num_targets / max(1, self.num_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able numbers; bins as their number only."""
        return {
            "num_samples": self.num_samples,
            "num_tokens": self.num_tokens,
            "kinds": self.kinds,
            "padding_share": self.padding_share,
            "target_share": self.target_share,
            "num_steps": self.num_steps,
            "num_without_targets": self.num_without_targets,
            "fields": {
                field.name: {
                    "num_numbers": field.num_numbers,
                    "bins_used": int((field.counts > 0).sum()),
                    "dead_share": field.dead_share,
                    "edge_share": field.edge_share,
                }
                for field in self.fields
            },
        }


def summarise(name: str, descriptions: Iterable[Description], num_bins: int) -> SourceStatistics:
    """Counts over sequences of one source.

    Args:
        name: Of the source.
        descriptions: The sequences.
        num_bins: Bins of a number.
    """
    kinds: Counter[str] = Counter()
    bins: dict[tuple[bool, str], list[int]] = {}
    num_samples = num_tokens = num_targets = num_steps = num_without = 0
    for description in descriptions:
        num_samples += 1
        num_tokens += len(description.tokens)
        num_targets += description.num_targets
        num_steps += description.num_steps or 0
        num_without += description.num_targets == 0
        kinds.update(description.counts)
        for token in description.tokens:
            if token.kind in (NUMBER, ACTION_NUMBER) and token.bin is not None and token.field:
                key = (token.kind == ACTION_NUMBER, token.field)
                bins.setdefault(key, []).append(
                    token.bin if token.label_bin is None else token.label_bin
                )
    fields = tuple(
        FieldBins(name=field, is_action=is_action, counts=np.bincount(values, minlength=num_bins))
        for (is_action, field), values in sorted(bins.items())
    )
    return SourceStatistics(
        name=name,
        num_samples=num_samples,
        num_tokens=num_tokens,
        kinds=dict(kinds),
        num_targets=num_targets,
        num_steps=num_steps,
        num_without_targets=num_without,
        fields=fields,
    )
