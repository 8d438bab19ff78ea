"""Choosing ids among the allowed ones only, one after the other: greedy, or sampled.

Randomness comes in as one uniform number a row, drawn from that row's own generator, so that a
row's choice never depends on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch

from db1.errors import DataError
from db1.ranges import Checked, Count, Positive, Range

TopP = Annotated[float, Range(above=0, most=1)]
"""Probability that the kept ids reach."""


class Rows(Protocol):
    """Interface of searches and sampling to sequences that grow side by side.

    Shapes: B rows, N ids that may be chosen.
    """

    @property
    def num_rows(self) -> int:
        """B."""
        ...

    def logits(self) -> torch.Tensor:
        """Scores of the N ids that may come next, float (B, N)."""
        ...

    def grown(self, index_B: torch.Tensor) -> Rows:
        """With one more id a row: int64 (B,), numbers in 0..N - 1."""
        ...

    def selected(self, rows: torch.Tensor) -> Rows:
        """With row `rows[i]`, int64 (N,), as row i."""
        ...


Take = Callable[[Sequence[int], torch.Tensor, torch.Tensor], Sequence[int]]
"""Called with the numbers of the rows still growing, their ids just drawn, int64 (B,), in 0..N - 1,
and the scores (B, N) that they were drawn from; returns the places among them of those to go on."""


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(Checked):
    """Choice of an id from its scores.

    Args:
        greedy: Take the best allowed id (the lowest of equals); the rest is then unused.
        median: Greedy takes the median of the allowed ids in their order in place of the best one,
            which means something where they are bins of a continuous number.
        temperature: Divides the scores before the softmax; below 1 sharpens.
        top_k: Keep only the k best ids; None keeps all.
        top_p: Keep the smallest set of best ids whose probability reaches p (nucleus sampling,
            Holtzman et al. 2020); None keeps all.
    """

    greedy: bool = True
    median: bool = False
    temperature: Positive = 1.0
    top_k: Count | None = None
    top_p: TopP | None = None

    @classmethod
    def at(
        cls, temperature: float, *, top_k: int | None = None, top_p: float | None = None
    ) -> DecodeConfig:
        """Sampling at a temperature; 0 takes the best id."""
        greedy = temperature == 0
        return cls(greedy=greedy, temperature=temperature or 1.0, top_k=top_k, top_p=top_p)


def draw_uniforms(generators: Sequence[torch.Generator]) -> torch.Tensor:
    """One number in [0, 1) from each row's generator, float64 (B,), on the CPU."""
    draws = [torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators]
    return torch.cat(draws)


def draw_ids(
    rows: Rows,
    max_ids: int,
    config: DecodeConfig,
    generators: Sequence[torch.Generator],
    take: Take,
    allowed_BN: torch.Tensor | None = None,
) -> Rows:
    """Draws ids behind every row, one after the other: the loop of actions, texts and answers.

    Args:
        rows: What is grown.
        max_ids: The most ids of a row.
        config: How an id is chosen.
        generators: One a row.
        take: Gets the ids, and ends rows.
        allowed_BN: As in `choose`, for the ids of rows that all go on.

    Returns:
        The last rows that were drawn behind; their last ids are not read yet.

    Raises:
        DataError: As `choose`.
    """
    running = list(range(rows.num_rows))
    for number in range(max_ids):
        logits_BN = rows.logits()
        index_B = choose(logits_BN, allowed_BN, config, [generators[row] for row in running])
        kept = take(running, index_B, logits_BN)
        if not kept or number == max_ids - 1:
            break
        if len(kept) < len(running):
            running = [running[place] for place in kept]
            rows, index_B = rows.selected(torch.tensor(kept)), index_B[kept]
        rows = rows.grown(index_B)
    return rows


def choose(
    logits_BN: torch.Tensor,
    allowed_BN: torch.Tensor | None,
    config: DecodeConfig,
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    """Chooses one of the N candidates of each row.

    Args:
        logits_BN: Scores of the N candidate ids, float (B, N).
        allowed_BN: bool (B, N), True where a candidate may be chosen; None allows all.
        config: Greedy or sampled, and how.
        generators: One CPU generator a row; unused when greedy.

    Returns:
        int64 (B,): index into the N candidates, always an allowed one.

    Raises:
        DataError: When a row allows nothing, or an allowed score is not a number.
    """
    logits_BN = logits_BN.float()
    if allowed_BN is not None:
        _check_allowed(logits_BN, allowed_BN)
        logits_BN = logits_BN.masked_fill(~allowed_BN, float("-inf"))
    if torch.isnan(logits_BN).any():
        raise DataError("the model's scores are not numbers; the weights are broken")
    if config.greedy and config.median:
        halves_B = logits_BN.new_full((len(logits_BN),), 0.5, dtype=torch.float64)
        return _inverse_cdf(logits_BN.softmax(dim=1), halves_B)
    if config.greedy:
        return logits_BN.argmax(dim=1)
    kept_BN = _restrict(logits_BN / config.temperature, config)
    return _inverse_cdf(kept_BN.softmax(dim=1), draw_uniforms(generators).to(kept_BN.device))


def probabilities(
    logits_BN: torch.Tensor, allowed_BN: torch.Tensor | None, temperature: float = 1.0
) -> torch.Tensor:
    """Softmax over the allowed candidates, float32 (B, N): for people who watch a choice."""
    logits_BN = logits_BN.float() / temperature
    if allowed_BN is not None:
        logits_BN = logits_BN.masked_fill(~allowed_BN, float("-inf"))
    return logits_BN.softmax(dim=1)


def _check_allowed(logits_BN: torch.Tensor, allowed_BN: torch.Tensor) -> None:
    if allowed_BN.shape != logits_BN.shape:
        raise DataError(
            f"mask of allowed ids has shape {tuple(allowed_BN.shape)}, "
            f"expected {tuple(logits_BN.shape)}"
        )
    empty = (~allowed_BN.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise DataError(f"rows {empty} allow no action; the environment's action mask is all zero")


def _restrict(logits_BN: torch.Tensor, config: DecodeConfig) -> torch.Tensor:
    """Sets all but the top-k and nucleus candidates to -inf; the best one always stays."""
    if config.top_k is not None and config.top_k < logits_BN.shape[1]:
        worst_B1 = logits_BN.topk(config.top_k, dim=1).values[:, -1:]
        logits_BN = logits_BN.masked_fill(logits_BN < worst_B1, float("-inf"))
    if config.top_p is not None and config.top_p < 1:
        sorted_BN, order_BN = logits_BN.sort(dim=1, descending=True, stable=True)
        probability_BN = sorted_BN.softmax(dim=1)
        before_BN = probability_BN.cumsum(dim=1) - probability_BN
        drop_BN = torch.zeros_like(before_BN, dtype=torch.bool)
        drop_BN.scatter_(1, order_BN, before_BN >= config.top_p)
        drop_BN.scatter_(1, order_BN[:, :1], False)
        logits_BN = logits_BN.masked_fill(drop_BN, float("-inf"))
    return logits_BN


def _inverse_cdf(probability_BN: torch.Tensor, uniforms_B: torch.Tensor) -> torch.Tensor:
    """The first candidate whose cumulated probability exceeds the row's uniform number."""
    cdf_BN = probability_BN.double().cumsum(dim=1)
    target_B1 = (uniforms_B * cdf_BN[:, -1])[:, None]
    index_B = torch.searchsorted(cdf_BN, target_B1, right=True).squeeze(1)
    last_B = probability_BN.shape[1] - 1 - (probability_BN.flip(1) > 0).int().argmax(dim=1)
    return torch.minimum(index_B, last_B)
