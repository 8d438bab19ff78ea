"""Acting in place: keys and values of the last tokens of each row in a ring at a fixed address.

Token number n of a row lies in slot n mod C. Nothing moves and nothing is allocated from step to
step, and what a step depends on (how many tokens each row has) lies on the device, so that the host
neither waits nor decides: on a GPU a step can be captured once and run again.

    C = 6, length 4        slot   0   1   2   3   4   5    trash
    a row after 8 tokens          6   7  (2) (3)  4   5          4..7 are held, 2 and 3 are not seen
    its next token                6   7   8  (3) (4)  5          written over 2

Padding of rows that get fewer tokens than others is written to one more slot that nobody reads. A
`Memory` can be kept and continued in several ways, a ring goes on in one.

Shapes: L layers, B batch rows, T new tokens, C slots, H heads, K head width, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from db1.errors import ConfigError, DataError
from db1.model.attention_kernels.interface import AttentionInputs, AttentionKernel, AttentionRequest
from db1.model.attention_plan import AttentionPlan
from db1.model.batch import ImageGroup, NumberGroup
from db1.model.positions import PositionTerms
from db1.model.transformer_xl import TransformerXL
from db1.model.visibility import masked_score


@dataclass(frozen=True, kw_only=True)
class RingVisibility:
    """Visibility of ring slots: which ones each new token sees, and how far away they are.

    Args:
        distances: int64 (B, T, C), at least 0.
        additive: 0 or `masked_score`, (B, 1, T, C).
        blind: bool (B, 1, T, 1), True for padding, which sees nothing.
    """

    distances: Tensor
    additive: Tensor
    blind: Tensor


class RingAttention(AttentionKernel):
    """Attention over all slots of a ring; terms come by ascending distance, 0 first."""

    name = "ring"
    extra_distances = 0

    def refusal(self, request: AttentionRequest) -> str | None:
        return "it acts only" if request.needs_grad else None

    def __call__(
        self, inputs: AttentionInputs, visibility: RingVisibility, dropout: float
    ) -> Tensor:
        qu_BHTK, qv_BHTK = inputs.biased_queries()
        if qu_BHTK.shape[2] == 1:  # reads the keys as they lie in memory
            scores_BHTC = (inputs.k @ qu_BHTK.transpose(2, 3)).transpose(2, 3)
        else:
            scores_BHTC = qu_BHTK @ inputs.k.transpose(2, 3)
        by_distance = None
        if inputs.vectors is not None:
            by_distance = _products(qv_BHTK, inputs.vectors)
        if inputs.scores is not None:
            scores = inputs.scores[None, :, None].expand(scores_BHTC.shape)
            by_distance = scores if by_distance is None else by_distance + scores
        if by_distance is not None:
            index = visibility.distances[:, None].expand(scores_BHTC.shape)
            scores_BHTC = scores_BHTC + by_distance.gather(3, index)
        exact = torch.promote_types(scores_BHTC.dtype, torch.float32)
        weights_BHTC = (scores_BHTC + visibility.additive).softmax(dim=-1, dtype=exact)
        mixed_BHTK = weights_BHTC.type_as(inputs.v) @ inputs.v
        return mixed_BHTK.masked_fill(visibility.blind, 0.0)


def _products(q_BHTK: Tensor, r_HCK: Tensor) -> Tensor:
    """(B, H, T, C): one product a head, since r is the same for all rows."""
    batch_size, _, num_tokens, _ = q_BHTK.shape
    q_HKN = q_BHTK.permute(1, 3, 0, 2).flatten(2)
    products_HCBT = (r_HCK @ q_HKN).unflatten(2, (batch_size, num_tokens))
    return products_HCBT.permute(2, 0, 3, 1)


_KERNEL = RingAttention()


class RingMemory:
    """A memory for one way on, changed in place; see the module's docstring.

    It belongs to the model's present weights: drop it when they change.

    Args:
        model: The decoder, in evaluation mode.
        batch_size: B.
        length: Tokens held of each row; None: the model's `memory_length`.
        most_tokens: Tokens that a row gets at once, at most.

    Raises:
        ConfigError: For a length below 0, no token at once, or a position encoding that turns keys.

    Attributes:
        columns: Keys and values (L, 2, B, H, C + 1, K); its address never changes.
        written: Tokens that each row ever got, int64 (B,), at a fixed address, too.
        held: Those of them that are remembered, int64 (B,).
    """

    def __init__(
        self,
        model: TransformerXL,
        batch_size: int,
        length: int | None = None,
        *,
        most_tokens: int = 1,
    ) -> None:
        config, weight = model.config, model.embedding.token.weight
        self.length = config.memory_length if length is None else length
        self.most_tokens = most_tokens
        if self.length < 0 or most_tokens < 1:
            raise ConfigError(
                f"ring of {self.length} tokens and {most_tokens} at once: expected at least 0 and 1"
            )
        self._model = model
        self._num_slots = self.length + most_tokens
        self._terms = [_ascending(terms) for terms in model.position_terms(self._num_slots)]
        shape = (config.num_layers, 2, batch_size, config.num_heads)
        slots = (self._num_slots + 1, config.head_dim)
        self.columns = torch.zeros((*shape, *slots), dtype=weight.dtype, device=weight.device)
        self.written = torch.zeros(batch_size, dtype=torch.int64, device=weight.device)
        self.held = torch.zeros_like(self.written)
        self._slots = torch.arange(self._num_slots, device=weight.device)
        self._start = model.zero_memory() if config.memory_start == "zeros" else None
        if self._start is not None:
            self.reset(torch.ones(batch_size, dtype=torch.bool, device=weight.device))

    @torch.no_grad()
    def reset(self, rows_B: Tensor) -> None:
        """Puts the rows where `rows_B`, bool (B,), is True back at their start."""
        filled = 0 if self._start is None else self.length
        self.held.masked_fill_(rows_B, filled)
        self.written.masked_fill_(rows_B, filled)
        if self._start is not None:
            start = self._start[:, :, None, :, None]
            self.columns.copy_(torch.where(rows_B[:, None, None, None], start, self.columns))

    @torch.no_grad()
    def decode(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: tuple[ImageGroup, ...] = (),
        lengths_B: Tensor | None = None,
        numbers: NumberGroup | None = None,
    ) -> Tensor:
        """Runs new tokens after those held, and holds them.

        Args:
            ids_BT: int64; row b's tokens are its last lengths[b], the rest is padding of any
                allowed id.
            local_positions_BT: int64.
            images: Images by size, with positions in the flattened (B * T) tokens.
            lengths_B: int64 (B,) on the device, tokens of each row in 0..T, not checked; None: T.
            numbers: Number patches, with positions in the flattened (B * T) tokens.

        Returns:
            Hidden states (B, T, D), meaningless at padding.

        Raises:
            DataError: For more tokens than the ring has room for.
        """
        if ids_BT.shape[1] > self.most_tokens:
            raise DataError(
                f"{ids_BT.shape[1]} tokens at once, but this ring has room for {self.most_tokens}"
            )
        model = self._model
        x_BTD = model.embedding(ids_BT, local_positions_BT, images, numbers)
        places_BT, visibility = self._advance(ids_BT.shape[1], lengths_B)
        plan = AttentionPlan(kernel=_KERNEL, visibility=visibility)
        shared = model.config.share_biases
        biases = (model.content_bias, model.position_bias) if shared else None
        for index, (layer, terms) in enumerate(zip(model.layers, self._terms, strict=True)):
            x_BTD = layer(x_BTD, terms, biases, plan, self._writer(index, places_BT))
        return x_BTD

    def _advance(self, num_tokens: int, lengths_B: Tensor | None) -> tuple[Tensor, RingVisibility]:
        """Counts the new tokens; returns their slots (B, T) and what they see."""
        count_B = lengths_B if lengths_B is not None else num_tokens
        padding_B = num_tokens - count_B
        steps_T = torch.arange(num_tokens, device=self.written.device)
        before_B, first_B = self.written.clone(), self.written - self.held
        shifted_BT = steps_T - padding_B[:, None] if lengths_B is not None else steps_T[None]
        number_BT = before_B[:, None] + shifted_BT
        self.written.add_(count_B)
        self.held.add_(count_B).clamp_(max=self.length)
        is_token_BT = number_BT >= before_B[:, None]
        places_BT = torch.where(is_token_BT, number_BT % self._num_slots, self._num_slots)
        newest_B1 = self.written[:, None] - 1
        in_slot_BC = newest_B1 - (newest_B1 - self._slots) % self._num_slots
        distances_BTC = number_BT[:, :, None] - in_slot_BC[:, None]
        hidden_BTC = (distances_BTC < 0) | (in_slot_BC < first_B[:, None])[:, None]
        if (span := self._model.config.attention_span) is not None:
            hidden_BTC = hidden_BTC | (distances_BTC >= span)
        dtype = self.columns.dtype
        additive = torch.zeros(hidden_BTC.shape, dtype=dtype, device=hidden_BTC.device)
        return places_BT, RingVisibility(
            distances=distances_BTC.clamp(0, self._num_slots - 1),
            additive=additive.masked_fill_(hidden_BTC, masked_score(dtype))[:, None],
            blind=~is_token_BT[:, None, :, None],
        )

    def _writer(
        self, layer: int, places_BT: Tensor
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return partial(self._write, layer, places_BT)

    def _write(
        self, layer: int, places_BT: Tensor, k_BHTK: Tensor, v_BHTK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Puts a layer's new keys and values in their slots; returns all slots (B, H, C, K)."""
        index = places_BT[:, None, :, None].expand(k_BHTK.shape)
        keys, values = self.columns[layer]
        keys.scatter_(2, index, k_BHTK)
        values.scatter_(2, index, v_BHTK)
        return keys[:, :, : self._num_slots], values[:, :, : self._num_slots]


def _ascending(terms: PositionTerms) -> PositionTerms:
    """Terms by ascending distance from 0, without the one of -1, copied once."""
    if terms.rotations is not None:
        raise ConfigError(
            "a ring holds keys that are compared as they are; position encoding rotary rotates "
            "them at each step: use a Memory"
        )
    vectors, scores = terms.vectors, terms.scores
    return replace(
        terms,
        vectors=None if vectors is None else vectors[:, :-1].flip(1).contiguous(),
        scores=None if scores is None else scores[:, :-1].flip(1).contiguous(),
    )
