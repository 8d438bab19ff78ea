"""Number patches -> embeddings.

    codes    0 nothing | 1 continuous | 2.. discrete, by channel and value   -> table ----.
    values   continuous numbers -> [mu-law, standardised] -> matrix, where the code is 1 - +
                                                                  one vector a number (N, G, E)
    laid end to end (N, G E) -> matrix ------------------------------------.
                             -> matrix + layout table -> GELU -> matrix ---- + -> (N, D)

All cells of a grid share one table by channel, so that a colour is the same colour everywhere; the
matrices know the places inside a patch. The layout table says which fields the numbers are.

A place 0.6 m away and one 0.61 m away differ little beside what they share, and a model that has to
find the difference first learns slowly: each number is also given as its distance from its mean in
units of its standard deviation, by layout and place (`db1.data.number_ranges` measures them).

Shapes: N patches, G numbers a patch, E width of a number, D width.

Source: chosen by experiment, docs/log.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from db1.model.batch import NumberGroup
from db1.model.config import ModelConfig
from db1.tokens.number_patch import CONTINUOUS_CODE, EMPTY_CODE, NUM_CODES, NUM_LAYOUTS
from db1.tokens.vocabulary import VocabularyConfig

_MAX_DEVIATIONS = 5.0
_FREQUENCIES = (1.0, 2.0, 4.0)
_NUM_FEATURES = 2 + 2 * len(_FREQUENCIES)


class NumberEncoder(nn.Module):
    """Embeds number patches.

    Args:
        config: Numbers in a patch, width of a number, width of the hidden states.

    Attributes:
        means: (layouts, G), mean of a continuous number where it was measured.
        scales: (layouts, G), 1 / standard deviation; 0 where it was not measured.
    """

    means: Tensor
    scales: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size = config.number_patch
        flat = config.number_patch * config.number_width
        hidden = 2 * config.width
        self.codes = nn.Embedding(NUM_CODES, config.number_width, padding_idx=EMPTY_CODE)
        self.continuous = nn.Linear(_NUM_FEATURES, config.number_width, bias=False)
        self.direct = nn.Linear(flat, config.width, bias=False)
        self.layout = nn.Embedding(NUM_LAYOUTS, hidden)
        self.expand = nn.Linear(flat, hidden, bias=False)
        self.contract = nn.Linear(hidden, config.width)
        for name in ("means", "scales"):
            self.register_buffer(name, torch.zeros(NUM_LAYOUTS, config.number_patch))

    def initialize(self) -> None:
        """Draws weights: codes of norm about 1, the matrices scaled by what they read."""
        nn.init.normal_(self.codes.weight, std=self.codes.embedding_dim**-0.5)
        nn.init.normal_(self.continuous.weight, std=self.codes.embedding_dim**-0.5)
        nn.init.normal_(self.layout.weight, std=0.1)
        for linear in (self.direct, self.expand, self.contract):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(self.contract.bias)
        with torch.no_grad():
            self.codes.weight[EMPTY_CODE] = 0.0

    def set_ranges(self, ranges: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """Fills in what is not known yet; what a model was trained with stays.

        Args:
            ranges: For each layout the means and the standard deviations of its numbers, float
                (G,); 0 deviation where a number is no continuous one.
        """
        for layout, (means, deviations) in ranges.items():
            if self.scales[layout].any():
                continue
            scales = np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)
            self.means[layout] = torch.as_tensor(means, dtype=self.means.dtype)
            self.scales[layout] = torch.as_tensor(scales, dtype=self.scales.dtype)

    def forward(self, group: NumberGroup) -> Tensor:
        """Embeds all patches of a batch; returns (N, D)."""
        weight = self.continuous.weight
        layouts = group.layouts.long()
        means, scales = self.means[layouts].float(), self.scales[layouts].float()
        features = number_features(group.values, means, scales).to(weight.dtype)
        is_continuous = (group.codes == CONTINUOUS_CODE)[..., None]
        numbers_NGE = self.codes(group.codes) + self.continuous(features) * is_continuous
        flat = numbers_NGE.flatten(1)
        hidden = F.gelu(self.expand(flat) + self.layout(layouts))
        return self.direct(flat) + self.contract(hidden)


def number_features(values: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """Continuous numbers (...,) -> (..., 8): by Gato's mu-law, standardised, and waves of that.

    The mu-law tells small numbers and magnitudes apart, the standardised number keeps differences
    of ordinary ones, sines and cosines of it let small ones stand out.

    Args:
        values: Numbers.
        means: Their means, of the same shape.
        scales: Their inverse standard deviations; 0: unknown, taken as 1.

    Source: Reed et al. 2022, appendix B (mu-law); Tancik et al. 2020 (waves).
    """
    law = VocabularyConfig()
    scale = 1.0 / math.log(law.max_magnitude * law.mu + 1.0)
    squashed = torch.sign(values) * torch.log1p(values.abs() * law.mu) * scale
    standard = (values - means) * torch.where(scales > 0, scales, torch.ones_like(scales))
    standard = standard.clamp(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
    waves = [wave(f * standard) for f in _FREQUENCIES for wave in (torch.sin, torch.cos)]
    return torch.stack([squashed, standard, *waves], dim=-1)
