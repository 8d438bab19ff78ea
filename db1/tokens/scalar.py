"""Continuous numbers <-> bins: the mu-law squashing and the uniform binning of Gato.

Source: Reed et al. 2022, "A Generalist Agent", appendix B; released DB1 model.
"""

from __future__ import annotations

import numpy as np

from db1.tokens.vocabulary import VocabularyConfig


class ScalarTokenizer:
    """Discretises observations (with mu-law) and actions (without).

    Args:
        config: Number of bins, mu, M and the decoding rule.
    """

    def __init__(self, config: VocabularyConfig) -> None:
        self.num_bins = config.num_continuous_bins
        self.mu = config.mu
        self.max_magnitude = config.max_magnitude
        self._scale = np.float32(np.log(config.max_magnitude * config.mu + 1.0))
        self._offset = 0.5 if config.continuous_decode == "centre" else 0.0

    def squash(self, x: np.ndarray) -> np.ndarray:
        """sgn(x) ln(|x| mu + 1) / ln(M mu + 1) of x (...,), float32 (...,), not clipped."""
        x = np.asarray(x, dtype=np.float32)
        y = np.array(np.abs(x))
        with np.errstate(over="ignore"):  # what overflows is far beyond M
            y *= np.float32(self.mu)
        y += np.float32(1.0)
        np.log(y, out=y)
        y /= self._scale
        return np.copysign(y, x, out=y)

    def encode_observation(self, x: np.ndarray) -> np.ndarray:
        """Observed numbers (...,) -> bins, int32 (...,)."""
        return self._bin(self.squash(x))

    def encode_action(self, x: np.ndarray) -> np.ndarray:
        """Action numbers (...,), clipped to [-1, 1] -> bins, int32 (...,)."""
        return self._bin(np.array(x, dtype=np.float32))

    def decode_action(self, bins: np.ndarray) -> np.ndarray:
        """Bins (...,) -> numbers in [-1, 1], float32 (...,): the bin's centre or left edge."""
        width = 2.0 / self.num_bins
        return ((np.asarray(bins) + self._offset) * width - 1.0).astype(np.float32)

    def decode_observation(self, bins: np.ndarray) -> np.ndarray:
        """Bins (...,) -> float32 (...,) in [-M, M]: the inverse mu-law of `decode_action`."""
        y = self.decode_action(bins).astype(np.float64)
        scale = np.log(self.max_magnitude * self.mu + 1.0)
        return (np.sign(y) * np.expm1(np.abs(y) * scale) / self.mu).astype(np.float32)

    def _bin(self, y: np.ndarray) -> np.ndarray:
        """Floor of (y + 1) / 2 * num_bins, held inside the bins; overwrites `y`."""
        y += np.float32(1.0)
        y *= np.float32(self.num_bins / 2)  # as exact as halving first: a power of two
        np.maximum(y, np.float32(0.0), out=y)
        np.minimum(y, np.float32(self.num_bins - 1), out=y)
        return y.astype(np.int32)
