"""The released model's formulation of a training step, written from its definition.

db1's weights, computed as the published code computes: scores by einsum in float32 with a shift
that pads and reshapes, a mask over all pairs, logits of every token, and the hidden states of each
layer kept as a memory.

Shapes: B batch, T tokens, M memory tokens, S = M + T keys, H heads, K head width, D width,
V vocabulary, L layers.

Source: Dai et al. 2019, section 3.3 and appendix B; released DB1 model,
`RelPartialLearnableMultiHeadAttn`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from db1.errors import ConfigError
from db1.model.batch import Batch
from db1.model.positions import sinusoids
from db1.model.transformer_xl import DecoderLayer, TransformerXL

HIDDEN_SCORE = -65_000.0
"""Score of a pair that is not seen."""


class ReleasedFormulation:
    """Losses of a db1 model, the released way.

    Args:
        model: Post-LN, shared biases, same_length, sinusoid positions, no DeepNorm.

    Raises:
        ConfigError: For a model with other options.
    """

    def __init__(self, model: TransformerXL) -> None:
        config = model.config
        released = (
            config.normalization == "post"
            and config.share_biases
            and config.position_encoding == "transformer_xl"
            and config.attention_span is not None
            and not config.deepnorm
        )
        if not released:
            raise ConfigError(
                "the released formulation has post-LN, shared biases, same_length and sinusoid "
                "positions, without DeepNorm; this model has other options"
            )
        self._model = model

    def loss_sum(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of the losses under the mask, and the hidden states kept as memory (L, B, T, D)."""
        hidden_BTD, memory_LBTD = self._hidden(batch)
        logits_BTV = F.linear(hidden_BTD, self._model.embedding.token.weight)
        losses_N = F.cross_entropy(
            logits_BTV.float().flatten(0, 1), batch.labels.flatten(), reduction="none"
        )
        return (losses_N * batch.loss_mask.flatten()).sum(), memory_LBTD

    def _hidden(self, batch: Batch) -> tuple[Tensor, Tensor]:
        config = self._model.config
        x_BTD = self._model.embedding(batch.ids, batch.local_positions, batch.images)
        num_tokens = x_BTD.shape[1]
        distances = torch.arange(num_tokens - 1, -1, -1.0, device=x_BTD.device)
        features_SD = sinusoids(distances, config.width, config.clamp_length).to(x_BTD.dtype)
        ones_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x_BTD.device)
        hidden_TT = ones_TT.triu(1) | ones_TT.tril(-config.attention_span)
        inputs = []
        for layer in self._model.layers:
            inputs.append(x_BTD.detach())
            mixed = self._attention(layer, x_BTD, features_SD, hidden_TT)
            x_BTD = layer.attention_norm(x_BTD + mixed)
            x_BTD = layer.feed_forward_norm(x_BTD + layer.feed_forward(x_BTD))
        return x_BTD, torch.stack(inputs)

    def _attention(
        self, layer: DecoderLayer, x_BTD: Tensor, features_SD: Tensor, hidden_TT: Tensor
    ) -> Tensor:
        attention, split = layer.attention, (self._model.config.num_heads, -1)
        q, k, v = (part.unflatten(-1, split) for part in attention.qkv(x_BTD).chunk(3, dim=-1))
        r_SHK = attention.positions.projection(features_SD).unflatten(-1, split)
        content = torch.einsum("bthk,bshk->btsh", q + self._model.content_bias, k)
        position = torch.einsum("bthk,shk->btsh", q + self._model.position_bias, r_SHK)
        scores_BTSH = ((content + relative_shift(position)) * attention.scale).float()
        scores_BTSH = scores_BTSH.masked_fill(hidden_TT[None, :, :, None], HIDDEN_SCORE)
        weights_BTSH = scores_BTSH.softmax(dim=2).type_as(v)
        mixed = torch.einsum("btsh,bshk->bthk", weights_BTSH, v)
        return attention.output(mixed.flatten(2))


def relative_shift(x_BTSH: Tensor) -> Tensor:
    """Scores by distance, descending -> by key, both (B, T, S, H); what is not seen is arbitrary.

    A column of zeros in front, the two axes read as one the other way round, the first row dropped.
    """
    batch_size, num_queries, num_keys, num_heads = x_BTSH.shape
    zeros = x_BTSH.new_zeros(batch_size, num_queries, 1, num_heads)
    padded = torch.cat([zeros, x_BTSH], dim=2)
    turned = padded.reshape(batch_size, num_keys + 1, num_queries, num_heads)
    return turned[:, 1:].reshape(x_BTSH.shape)
