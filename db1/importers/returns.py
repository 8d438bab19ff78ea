"""The filter by return: keep what comes near the expert.

Gato (Reed et al. 2022, section 5.2 and appendix) keeps episodes with at least 80 % of the expert's
return, and estimates the expert's return as the best average over a window of W consecutive
episodes:

    expert = max over j of (R_j + ... + R_(j+W-1)) / W,   W = min(1000, 0.1 N), at least 1

Example: returns 1 to 10 (N = 10, so W = 1) give 10; a share of 0.8 keeps the last three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.importers.episode_source import EpisodeOptions, EpisodeSource

_MAX_WINDOW = 1_000


@dataclass(frozen=True, kw_only=True)
class ReturnFilter:
    """Criterion for the episodes that are kept, by their return.

    Args:
        share: Share of the expert's return.
        expert: The expert's return.
        origin: Where that number comes from, "--expert-return", "published" or "windowed maximum".
    """

    share: float
    expert: float
    origin: str

    @property
    def threshold(self) -> float:
        """The smallest return that is kept.

        Where the expert's return is negative a share s allows a loss of expert / s.
        """
        if self.share == 0.0:
            return -np.inf
        return self.expert * self.share if self.expert >= 0.0 else self.expert / self.share

    def to_dict(self) -> Mapping[str, Any]:
        """JSON-able description."""
        return {"share": self.share, "expert_return": self.expert, "expert_origin": self.origin}


def return_filter(options: EpisodeOptions, source: EpisodeSource) -> ReturnFilter | None:
    """Builds the filter that the options ask for; None without --min-return-share.

    Raises:
        DataError: No episode has a finite return.
    """
    share = options.min_return_share
    if share is None:
        return None
    if options.expert_return is not None:
        return ReturnFilter(share=share, expert=options.expert_return, origin="--expert-return")
    if "expert" in source.references:
        return ReturnFilter(share=share, expert=source.references["expert"], origin="published")
    returns = np.array([value for value in source.returns() if np.isfinite(value)])
    if not len(returns):
        raise DataError(f"{source.name}: no episode with a finite return; give --expert-return")
    return ReturnFilter(share=share, expert=windowed_maximum(returns), origin="windowed maximum")


def windowed_maximum(returns: np.ndarray) -> float:
    """Gato's estimate of the expert's return from returns (N,) in the order of the data."""
    window = max(1, min(_MAX_WINDOW, len(returns) // 10))
    sums = np.concatenate([[0.0], np.cumsum(returns, dtype=np.float64)])
    return float(np.max(sums[window:] - sums[:-window]) / window)
