"""The TransformerXL decoder: training loss, acting with a memory, and scoring of id ranges.

    ids, images, local positions -> Embedding -> DecoderLayer x L -> hidden -> logits of some ids

    post-LN  x = LN(a x + attention(x))      x = LN(a x + feed_forward(x))      a: DeepNorm or 1
    pre-LN   x = x + attention(LN(x))        x = x + feed_forward(LN(x))

Shapes: B batch, T query tokens, M memory tokens, S = M + T keys, H heads, K head width, D width,
L layers, V vocabulary.

Source: Dai et al. 2019, "Transformer-XL"; released DB1 model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from db1.errors import ConfigError
from db1.model.attention import Biases, ExtendKeys, RelativeAttention, attention_biases
from db1.model.attention_kernels import AttentionRequest
from db1.model.attention_plan import AttentionPlan, attention_plan
from db1.model.batch import Batch, ImageGroup, NumberGroup
from db1.model.config import ModelConfig
from db1.model.embedding import Embedding, num_processes
from db1.model.feed_forward import FeedForward
from db1.model.loss import TrainOutput, masked_loss, target_places
from db1.model.memory import Memory
from db1.model.positions import PositionTerms, descending_distances
from db1.model.room import check_room
from db1.model.visibility import Visibility

MOST_TARGETS = 0.7
"""Share of targets up to which the last layer is computed at them alone: picking costs, too."""

Kept = tuple[Tensor | None, Tensor | None]
"""Factors of the two sub-layers' outputs under stochastic depth, each (B, 1, 1) or None."""

NOTHING_SKIPPED: Kept = (None, None)


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each with its residual and LayerNorm.

    Args:
        config: Of the decoder.
        index: Number of this layer, from 0.
    """

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.pre = config.normalization == "pre"
        self.residual_scale = config.residual_scale
        self.dropout = config.residual_dropout
        self.skip_rate = config.skip_rate(index)
        self.attention = RelativeAttention(config)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=config.layer_norm_epsilon)

    def forward(
        self,
        x_BTD: Tensor,
        terms: PositionTerms,
        biases: Biases | None,
        plan: AttentionPlan,
        extend: ExtendKeys | None = None,
        at_N: Tensor | None = None,
        kept: Kept = NOTHING_SKIPPED,
    ) -> Tensor:
        """As `RelativeAttention.forward`, with draws of `draw_kept`.

        Returns:
            (B, T, D), or (N, D) with `at_N`.
        """
        inputs = self.attention_norm(x_BTD) if self.pre else x_BTD
        mixed = self.attention(inputs, terms, biases, plan, extend, at_N)
        x = x_BTD if at_N is None else x_BTD.flatten(0, 1).index_select(0, at_N)
        x = self._join(x, mixed, self.attention_norm, kept[0])
        inputs = self.feed_forward_norm(x) if self.pre else x
        return self._join(x, self.feed_forward(inputs), self.feed_forward_norm, kept[1])

    def draw_kept(self, x_BTD: Tensor, at_N: Tensor | None = None) -> Kept:
        """Draws which sequences keep their sub-layers, and by what these are multiplied.

        Drawn outside of `forward`, so that torch.compile sees numbers in place of a rate that
        differs by layer, and compiles one layer for all.

        Args:
            x_BTD: Input of the layer.
            at_N: As in `forward`.

        Returns:
            For attention and feed-forward 0 or 1 / (1 - rate), each (B, 1, 1), or (N, 1) with
            `at_N`; None without stochastic depth and in evaluation.
        """
        if not (self.skip_rate and self.training):
            return NOTHING_SKIPPED
        return self._draw_kept(x_BTD, at_N), self._draw_kept(x_BTD, at_N)

    def _draw_kept(self, x_BTD: Tensor, at_N: Tensor | None) -> Tensor:
        batch_size, num_tokens, _ = x_BTD.shape
        kept_B = F.dropout(x_BTD.new_ones(batch_size), self.skip_rate)
        if at_N is None:
            return kept_B[:, None, None]
        return kept_B[torch.div(at_N, num_tokens, rounding_mode="floor")][:, None]

    def memory_keys(self, memory_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, M, K) of remembered inputs of this layer."""
        inputs = self.attention_norm(memory_BMD) if self.pre else memory_BMD
        return self.attention.project(inputs)[1:]

    def _join(self, x: Tensor, update: Tensor, norm: nn.LayerNorm, kept: Tensor | None) -> Tensor:
        """Residual sum of (B, T, D), or of (N, D)."""
        if self.dropout and self.training:
            update = F.dropout(update, self.dropout)
        if kept is not None:
            update = update * kept
        if self.pre:
            return x + update
        return norm(x + update if self.residual_scale == 1.0 else self.residual_scale * x + update)


class TransformerXL(nn.Module):
    """One decoder for text, images with text, and behaviour.

    Args:
        config: Sizes and options.
        vocabulary_size: Number of ids V.
        bin_range: Ids of the continuous bins; needed for `bin_init: smooth`.

    Attributes:
        is_compiled: Its layers compile themselves: one graph serves any number of targets.

    Raises:
        ConfigError: For an unknown position encoding or a vocabulary without ids.
    """

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, bin_range: range | None = None
    ) -> None:
        super().__init__()
        if vocabulary_size < 1:
            raise ConfigError(f"vocabulary_size: got {vocabulary_size}, expected at least 1")
        if torch.get_default_device().type != "meta":
            check_room(config, vocabulary_size)
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.is_compiled = False
        self.embedding = Embedding(config, vocabulary_size, bin_range)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
        if config.share_biases:
            self.content_bias, self.position_bias = attention_biases(config)
        if not config.tie_embeddings:
            self.output = nn.Linear(config.width, vocabulary_size, bias=False)
        self._initialize()

    def forward(self, batch: Batch) -> TrainOutput:
        """Loss of a batch; the last layer and the logits are computed under the loss mask only."""
        places_N = batch.target_places
        if places_N is None:
            places_N = target_places(batch.loss_mask)
        # Several processes must compute alike: ZeRO-3 pairs their gradients by order.
        few = len(places_N) <= MOST_TARGETS * batch.loss_mask.numel()
        if few or num_processes() > 1:
            hidden_ND = self._hidden(batch, places_N)
        else:
            hidden_ND = self.hidden(batch).flatten(0, 1).index_select(0, places_N)
        return masked_loss(
            hidden_ND,
            places_N,
            batch.labels,
            batch.loss_mask,
            self._table,
            batch.target_weights,
        )

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states (B, T, D) of a batch, without memory."""
        return self._hidden(batch, None)

    def _hidden(self, batch: Batch, at_N: Tensor | None) -> Tensor:
        """Last hidden states of all tokens (B, T, D), or (N, D) of those at some places."""
        x_BTD = self._embed(batch.ids, batch.local_positions, batch.images, batch.numbers)
        num_tokens = x_BTD.shape[1]
        plan = self._plan(x_BTD, num_tokens, None)
        last = len(self.layers) - 1
        if at_N is not None and self.is_compiled:  # each batch has another number of targets
            torch._dynamo.maybe_mark_dynamic(at_N, 0)
        all_terms = self.position_terms(num_tokens)
        for index, (layer, terms) in enumerate(zip(self.layers, all_terms, strict=True)):
            at = at_N if index == last else None
            arguments = (x_BTD, terms, self._biases, plan, None, at, layer.draw_kept(x_BTD, at))
            if self.config.activation_checkpointing and torch.is_grad_enabled():
                x_BTD = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                x_BTD = layer(*arguments)
        return x_BTD

    @torch.no_grad()
    def decode(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: tuple[ImageGroup, ...] = (),
        memory: Memory | None = None,
        lengths: Tensor | None = None,
        numbers: NumberGroup | None = None,
    ) -> tuple[Tensor, Memory]:
        """Runs new tokens after a memory, for acting.

        Args:
            ids_BT: int64; row b's tokens are its last lengths[b], the rest is padding of any
                allowed id.
            local_positions_BT: int64.
            images: Images by size, with positions in the flattened (B * T) tokens.
            memory: What came before; None: nothing, with room for `config.memory_length` tokens.
            lengths: int64 (B,), tokens of each row in 0..T; None: T.
            numbers: Number patches, with positions in the flattened (B * T) tokens.

        Returns:
            Hidden states (B, T, D), meaningless at padding, and the memory after these tokens.

        Raises:
            DataError: For lengths outside their range, or placeholders without image.
        """
        if memory is None:
            memory = self.new_memory(len(ids_BT), self.config.memory_length, ids_BT.device)
        x_BTD = self._embed(ids_BT, local_positions_BT, images, numbers)
        extension = memory.extended(x_BTD.shape[1], lengths, self.config.attention_span)
        plan = self._plan(x_BTD, extension.num_seen, extension.valid_seen)
        all_terms = memory.positions.terms(extension.num_seen)
        for index, (layer, terms) in enumerate(zip(self.layers, all_terms, strict=True)):
            x_BTD = layer(x_BTD, terms, self._biases, plan, extension.appender(index))
        return x_BTD, extension.finish()

    def recur(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: tuple[ImageGroup, ...] = (),
        memory_LBMD: Tensor | None = None,
        keep: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Runs a segment after remembered hidden states, as the released model does.

        Gradients flow through the segment, not into the memory.

        Args:
            ids_BT: int64.
            local_positions_BT: int64.
            images: Images by size.
            memory_LBMD: Inputs of each layer at the last tokens; None: the start of a sequence,
                that is, nothing or zeros as `config.memory_start` says.
            keep: Tokens remembered; None: `config.memory_length`.

        Returns:
            Hidden states (B, T, D), and the inputs of each layer at the last `keep` tokens,
            detached.
        """
        x_BTD = self._embed(ids_BT, local_positions_BT, images)
        if memory_LBMD is None:
            length = self.config.memory_length if self.config.memory_start == "zeros" else 0
            memory_LBMD = x_BTD.new_zeros(len(self.layers), x_BTD.shape[0], length, x_BTD.shape[2])
        num_keys = memory_LBMD.shape[2] + x_BTD.shape[1]
        plan = self._plan(x_BTD, num_keys, None)
        inputs = []
        all_terms = self.position_terms(num_keys)
        for layer, terms, memory in zip(self.layers, all_terms, memory_LBMD, strict=True):
            inputs.append(x_BTD.detach())
            past = layer.memory_keys(memory)
            kept = layer.draw_kept(x_BTD)
            x_BTD = layer(x_BTD, terms, self._biases, plan, _prepend(past), kept=kept)
        grown = torch.cat([memory_LBMD, torch.stack(inputs)], dim=2)
        keep = self.config.memory_length if keep is None else keep
        return x_BTD, grown[:, :, max(0, num_keys - keep) :]

    def logits(self, hidden: Tensor, ids: slice | range | None = None) -> Tensor:
        """Scores ids: (..., D) -> (..., number of ids).

        Args:
            hidden: Hidden states.
            ids: The ids to score; None: all V.
        """
        weight = self._table
        if ids is not None:
            weight = weight[slice(ids.start, ids.stop, ids.step)]
        return F.linear(hidden, weight)

    def position_terms(self, span: int) -> list[PositionTerms]:
        """Each layer's terms, by distance from span - 1 down to -1."""
        weight = self.embedding.token.weight
        encodings = [layer.attention.positions for layer in self.layers]
        features = encodings[0].features(self.config, descending_distances(span, weight))
        return [encoding(features, weight.dtype) for encoding in encodings]

    def new_memory(
        self, batch_size: int, memory_length: int, device: torch.device | str | None = None
    ) -> Memory:
        """A memory before the first token.

        It belongs to the present weights: drop it when they change.

        Args:
            batch_size: B.
            memory_length: Tokens held at most.
            device: Where it lies; the model's device when None.

        Raises:
            ConfigError: For a negative length.
        """
        weight = self.embedding.token.weight
        return Memory.empty(
            self.config,
            batch_size,
            memory_length,
            like=weight if device is None else weight.new_empty(0, device=device),
            start=self.zero_memory() if self.config.memory_start == "zeros" else None,
            terms_of=self.position_terms,
        )

    def zero_memory(self) -> Tensor:
        """Keys and values of a remembered vector of zeros, (L, 2, H, K)."""
        with torch.no_grad():
            zero = self.embedding.token.weight.new_zeros(1, 1, self.config.width)
            pairs = [torch.stack(layer.memory_keys(zero)) for layer in self.layers]
        return torch.stack(pairs)[:, :, 0, :, 0]

    @property
    def _table(self) -> Tensor:
        """The row of each id, (V, D), with which hidden states are multiplied."""
        return self.embedding.token.weight if self.config.tie_embeddings else self.output.weight

    @property
    def _biases(self) -> Biases | None:
        return (self.content_bias, self.position_bias) if self.config.share_biases else None

    def _embed(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: Sequence[ImageGroup],
        numbers: NumberGroup | None = None,
    ) -> Tensor:
        x_BTD = self.embedding(ids_BT, local_positions_BT, tuple(images), numbers)
        if self.config.embedding_dropout and self.training:
            x_BTD = F.dropout(x_BTD, self.config.embedding_dropout)
        return x_BTD

    def _plan(self, x_BTD: Tensor, num_keys: int, valid_keys: Tensor | None) -> AttentionPlan:
        """The attention kernel and which keys are seen, settled before the layers."""
        config = self.config
        request = AttentionRequest(
            device=x_BTD.device,
            dtype=x_BTD.dtype,
            head_dim=config.head_dim,
            num_queries=x_BTD.shape[1],
            dropout=config.attention_dropout if self.training else 0.0,
            needs_grad=torch.is_grad_enabled(),
        )
        visibility = Visibility(
            num_queries=x_BTD.shape[1],
            num_keys=num_keys,
            span=config.attention_span,
            valid_keys=valid_keys,
            dtype=x_BTD.dtype,
            device=x_BTD.device,
        )
        return attention_plan(config.attention, request, visibility)

    def _initialize(self) -> None:
        """Normal weights; DeepNorm shrinks what feeds the residuals (Wang et al. 2022).

        A model on the meta device has shapes only, and nothing to draw.
        """
        config = self.config
        if self.embedding.token.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if name.endswith("bias") and parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=config.init_std)
        if config.deepnorm:
            self._shrink_for_deepnorm((8.0 * config.num_layers) ** -0.25)
        if config.bin_init == "smooth":
            self.embedding.initialize_bins()
        if self.embedding.numbers is not None:
            self.embedding.numbers.initialize()

    @torch.no_grad()
    def _shrink_for_deepnorm(self, beta: float) -> None:
        for layer in self.layers:
            layer.attention.qkv.weight[2 * self.config.width :] *= beta
            layer.attention.output.weight *= beta
            layer.feed_forward.expand.weight *= beta
            layer.feed_forward.contract.weight *= beta


def _prepend(past: tuple[Tensor, Tensor]) -> ExtendKeys:
    """Puts remembered keys and values before new ones."""

    def extend(k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([past[0], k_BHTK], dim=2), torch.cat([past[1], v_BHTK], dim=2)

    return extend
