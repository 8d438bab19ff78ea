"""Modules that become ONNX graphs: an acting step and the encoder of number patches.

Shapes: B rows, L layers, H heads, M memory tokens, K head width, D width, V vocabulary, G numbers a
patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from db1.model.attention import ExtendKeys
from db1.model.attention_kernels import ATTENTION_KERNELS
from db1.model.attention_plan import AttentionPlan
from db1.model.batch import NumberGroup
from db1.model.transformer_xl import TransformerXL
from db1.model.visibility import Visibility


class DecodeStep(nn.Module):
    """One token of each row behind a memory of M tokens: a function of tensors alone.

    Args:
        model: The decoder, in evaluation mode.
        memory_length: M.
    """

    def __init__(self, model: TransformerXL, memory_length: int) -> None:
        super().__init__()
        self.model = model
        self.memory_length = memory_length
        with torch.no_grad():
            self._terms = model.position_terms(memory_length + 1)

    def forward(
        self,
        ids: Tensor,
        local_positions: Tensor,
        embeddings: Tensor,
        memory: Tensor,
        counts: Tensor,
        front: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs one token of each row.

        Args:
            ids: int64 (B,); below 0 where the token's vector is in `embeddings`.
            local_positions: int64 (B,), place in the observation; below 0 where there is none.
            embeddings: (B, D), read where the id is below 0.
            memory: (L, 2, B, H, M, K), keys and values; the newest token at the right.
            counts: int64 (B,), tokens that a row remembers, 0..M.
            front: int64 (B,), how many of a row's first tokens stay when its memory is full.

        Returns:
            Scores (B, V) of the next token, and memory and counts behind this one.
        """
        model, size = self.model, self.memory_length
        table, places = model.embedding.token, model.embedding.local_position
        x = torch.where((ids < 0)[:, None], embeddings, table(ids.clamp(min=0)))
        has_place = (local_positions >= 0)[:, None]
        x = x + places(local_positions.clamp(min=0)) * has_place
        visibility = Visibility(
            num_queries=1,
            num_keys=size + 1,
            span=model.config.attention_span,
            valid_keys=counts + 1,
            dtype=x.dtype,
            device=x.device,
        ).with_additive()
        plan = AttentionPlan(kernel=ATTENTION_KERNELS["token"], visibility=visibility)
        grown: list[Tensor] = []
        x_B1D = x[:, None]
        for layer, terms, past in zip(model.layers, self._terms, memory, strict=True):
            x_B1D = layer(x_B1D, terms, model._biases, plan, _appender(past, grown))
        columns = torch.arange(size)
        stays = (counts == size)[:, None] & (columns < front[:, None])
        source = torch.where(stays, columns, columns + 1)[None, :, None, :, None]
        kept = [
            pair.gather(3, source.expand(*pair.shape[:3], size, pair.shape[4])) for pair in grown
        ]
        return model.logits(x_B1D[:, 0]), torch.stack(kept), (counts + 1).clamp(max=size)


class NumberGraph(nn.Module):
    """Number patches by their parts, as graphs have no dataclasses."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: Tensor, codes: Tensor, layouts: Tensor) -> Tensor:
        """Embeds patches: values (N, G), codes int32 (N, G), layouts int32 (N,) -> (N, D)."""
        positions = torch.arange(values.shape[0])
        return self.encoder(
            NumberGroup(values=values, codes=codes, layouts=layouts, positions=positions)
        )


def _appender(past: Tensor, grown: list[Tensor]) -> ExtendKeys:
    """Puts a layer's remembered keys and values, (2, B, H, M, K), before the new ones."""

    def extend(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.cat([past, torch.stack([keys, values])], dim=3)
        grown.append(pair)
        return pair[0], pair[1]

    return extend
