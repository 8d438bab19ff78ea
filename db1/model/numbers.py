"""Number patches -> embeddings.

    codes    0 nothing | 1 continuous | 2.. discrete, by channel and value   -> table ----.
    values   continuous numbers -> [mu-law, clipped] -> matrix, where the code is 1 ------ +
                                                                  one vector a number (N, G, E)
    laid end to end (N, G E) -> matrix ------------------------------------.
                             -> matrix + layout table -> GELU -> matrix ---- + -> (N, D)

All cells of a grid share one table by channel, so that a colour is the same colour everywhere; the
matrices know the places inside a patch. The layout table says which fields the numbers are.

Shapes: N patches, G numbers a patch, E width of a number, D width.

Source: chosen by experiment, docs/log.md.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from db1.model.batch import NumberGroup
from db1.model.config import ModelConfig
from db1.tokens.number_patch import CONTINUOUS_CODE, EMPTY_CODE, NUM_CODES, NUM_LAYOUTS
from db1.tokens.vocabulary import VocabularyConfig

_LINEAR_RANGE = 4.0
_NUM_FEATURES = 2


class NumberEncoder(nn.Module):
    """Embeds number patches.

    Args:
        config: Numbers in a patch, width of a number, width of the hidden states.
    """

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

    def forward(self, group: NumberGroup) -> Tensor:
        """Embeds all patches of a batch; returns (N, D)."""
        weight = self.continuous.weight
        features = number_features(group.values).to(weight.dtype)
        is_continuous = (group.codes == CONTINUOUS_CODE)[..., None]
        numbers_NGE = self.codes(group.codes) + self.continuous(features) * is_continuous
        flat = numbers_NGE.flatten(1)
        hidden = F.gelu(self.expand(flat) + self.layout(group.layouts))
        return self.direct(flat) + self.contract(hidden)


def number_features(values: Tensor) -> Tensor:
    """Continuous numbers (...,) -> (..., 2): squashed by Gato's mu-law, and clipped to [-1, 1].

    The mu-law tells small numbers and magnitudes apart, the clipped number keeps differences of
    ordinary ones.

    Source: Reed et al. 2022, appendix B (mu-law).
    """
    law = VocabularyConfig()
    scale = 1.0 / math.log(law.max_magnitude * law.mu + 1.0)
    squashed = torch.copysign(torch.log1p(values.abs() * law.mu) * scale, values)
    return torch.stack([squashed, (values / _LINEAR_RANGE).clamp(-1.0, 1.0)], dim=-1)
