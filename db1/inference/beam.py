"""Beam search: the likeliest texts, several prompts at once, each with its beams as rows.

    row      prompt 0: beams 0 1 2 | prompt 1: beams 0 1 2 | ...
    a step   every beam with every next id; those that end go to the prompt's finished texts, of
             the others the likeliest `num_beams` stay

    score = log-probability / tokens ** length_penalty            (tokens count the end of text)

Source of the length penalty: Wu et al. 2016, section 7 (in the form most libraries use).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from db1.errors import DataError
from db1.inference.decode import Rows
from db1.ranges import Checked, Count, NonNegative, Range


@dataclass(frozen=True, kw_only=True)
class BeamConfig(Checked):
    """Depth and width of the search.

    Args:
        num_beams: Texts that are carried on for each prompt.
        max_tokens: A text is cut off after these.
        length_penalty: Exponent of the length; 0 prefers short texts, above 1 long ones.
        early: End a search once no running text would be the best if it ended now; else once
            none can become it.
    """

    num_beams: Annotated[int, Range(least=1, most=4_096)] = 3
    max_tokens: Count = 32
    length_penalty: NonNegative = 1.0
    early: bool = True


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One text that a search found.

    Args:
        tokens: Numbers of its ids among those that may be written, the end left out.
        log_probability: Of all tokens, the end included where it has one.
        score: What it is ranked by.
        ended: False when it was cut off.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


@dataclass
class _Search:
    """The search after one prompt: texts that run on, by likelihood, and finished ones."""

    config: BeamConfig
    texts: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    log_probabilities: list[float] = field(default_factory=lambda: [0.0])
    finished: list[Hypothesis] = field(default_factory=list)

    def finish(self, row: int, ending: float | None) -> None:
        """Enters text `row` as finished.

        Args:
            row: Its number.
            ending: Log-probability with its end of text; None: it was cut off.
        """
        text = self.texts[row]
        value = self.log_probabilities[row] if ending is None else ending
        if value == float("-inf"):
            return
        length = len(text) + (ending is not None)
        found = Hypothesis(
            tokens=text,
            log_probability=value,
            score=value / length**self.config.length_penalty,
            ended=ending is not None,
        )
        self.finished.append(found)
        self.finished.sort(key=lambda h: -h.score)
        del self.finished[self.config.num_beams :]

    @property
    def is_over(self) -> bool:
        best = max(self.log_probabilities, default=float("-inf"))
        length = len(self.texts[0]) if self.texts else 0
        if best == float("-inf") or length >= self.config.max_tokens:
            return True
        length = length if self.config.early else self.config.max_tokens
        reachable = best / length**self.config.length_penalty
        return bool(self.finished) and self.finished[0].score >= reachable


def beam_search(rows: Rows, end: int, config: BeamConfig) -> list[list[Hypothesis]]:
    """Searches after every row.

    Args:
        rows: One a prompt.
        end: Number of the id that ends a text.
        config: How far and how wide.

    Returns:
        For each prompt at most `num_beams` texts, the best first.

    Raises:
        DataError: The scores are not numbers.
    """
    searches = [_Search(config) for _ in range(rows.num_rows)]
    running = list(searches)
    while running:
        logits_BN = rows.logits()
        if torch.isnan(logits_BN).any():
            raise DataError("the model's scores are not numbers; the weights are broken")
        log_BN = logits_BN.double().log_softmax(dim=1)
        parents, index = _step(running, log_BN, end)
        kept = [i for i, search in enumerate(running) if not search.is_over]
        if not kept:
            break
        running = [running[i] for i in kept]
        chosen = torch.tensor([parent for i in kept for parent in parents[i]])
        rows = rows.selected(chosen).grown(torch.tensor([n for i in kept for n in index[i]]))
    for search in searches:
        for row, text in enumerate(search.texts):
            if len(text) >= config.max_tokens:
                search.finish(row, None)
    return [search.finished for search in searches]


def _step(
    running: Sequence[_Search], log_BN: Tensor, end: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Carries every search one id on; returns each one's parent rows and the ids after them."""
    num_beams = running[0].config.num_beams
    width = len(running[0].texts)
    before_B = log_BN.new_tensor([p for s in running for p in s.log_probabilities])
    total_BN = before_B[:, None] + log_BN
    endings = total_BN[:, end].tolist()
    total_BN[:, end] = float("-inf")
    joined = total_BN.reshape(len(running), -1)
    values, places = joined.topk(min(num_beams, joined.shape[1]), dim=1)
    parents, index = [], []
    for i, search in enumerate(running):
        for row in range(width):
            search.finish(row, endings[i * width + row])
        found = zip(values[i].tolist(), places[i].tolist(), strict=True)
        beams = [(value, *divmod(place, log_BN.shape[1])) for value, place in found]
        beams += [(float("-inf"), 0, 0)] * (num_beams - len(beams))
        search.texts = [(*search.texts[parent], token) for _, parent, token in beams]
        search.log_probabilities = [value for value, _, _ in beams]
        parents.append([i * width + parent for _, parent, _ in beams])
        index.append([token for _, _, token in beams])
    return parents, index
