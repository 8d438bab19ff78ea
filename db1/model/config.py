"""Sizes and options of the decoder; the defaults are the released 1.2B model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from db1.errors import ConfigError, check_one_of
from db1.model.positions import POSITION_ENCODINGS
from db1.ranges import Checked, NonNegative, Positive, Range, Rate
from db1.tokens.number_patch import PatchSizes

_CHOICES = {
    "normalization": ("post", "pre"),
    "activation": ("geglu", "gelu", "relu"),
    "memory_start": ("empty", "zeros"),
    "attention": ("auto", "reference", "sdpa", "blocked", "fused"),
    "bin_init": ("normal", "smooth"),
    "continuous_choice": ("best", "median"),
    "discrete_choice": ("best", "sampled"),
    "stochastic_depth_rule": ("constant", "linear"),
    "pixels": ("standardized", "scaled"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """Architecture of a `TransformerXL`.

    Args:
        num_layers: Decoder layers.
        num_heads: Attention heads; divides width.
        width: Width D of the hidden states.
        inner_width: Output width of the feed-forward's first matrix (GEGLU halves it); None means
            4 * width.
        memory_length: Tokens of memory M; also the attention span under `same_length`. 0 means no
            memory.
        same_length: Every query sees itself and the memory_length - 1 keys before it, no further.
        clamp_length: Distances beyond it count as it; None means no limit. Encodings without a
            distance to clamp (`rotary`, `none`) refuse it.
        memory_start: What stands in a memory before tokens do: nothing (`empty`), or vectors of
            zeros that are attended to (`zeros`, the released model).
        position_encoding: Name in `db1.model.positions.POSITION_ENCODINGS`.
        attention: Kernel that computes attention (`db1.model.attention_kernels`): `auto` chooses by
            device; `reference`, `sdpa`, `blocked` (CPU) or `fused` (NVIDIA GPU, Triton). One that
            cannot serve is replaced, with a warning that names the reason. Weights and results
            are the same with all of them, up to rounding.
        share_biases: One content bias u and position bias v for all layers, not one a layer;
            v only where the position encoding uses it.
        normalization: LayerNorm after each residual sum (`post`) or before each sub-layer (`pre`).
        deepnorm: Multiply the residual by (2 * num_layers) ** 0.25 (`post` only).
        layer_norm_epsilon: Epsilon of every LayerNorm.
        activation: `geglu`, `gelu` or `relu`.
        tie_embeddings: Score tokens with the embedding table instead of a matrix of their own.
        embedding_dropout: Rate on the embedded tokens.
        residual_dropout: Rate on each sub-layer's output.
        attention_dropout: Rate on the attention weights.
        stochastic_depth: Rate at which a sequence skips a sub-layer (attention or feed-forward) in
            training; what is kept is divided by 1 - rate, so that nothing changes in evaluation.
        stochastic_depth_rule: `constant`: every layer has that rate; `linear`: layer l of L has
            rate * l / L, the last one the full rate.
        num_local_positions: Rows of the table of places inside an environment step.
        patch_size: Side of an image patch in pixels.
        number_patch: Consecutive numbers of an observation that are one token (see
            `db1.tokens.number_patch`); 1: every number is a token of its own (Gato, DB1).
        number_width: Width of a single number inside the encoder of number patches.
        continuous_choice: What acting takes for the best value of a continuous action: `best`, the
            most likely bin (Gato, DB1), or `median`, the bin with half of the probability on either
            side. A model that is not sure often has its likeliest bin at an end of the range.
        discrete_choice: What acting takes for the best value of a discrete action: `best`, the most
            likely one (Gato, DB1), or `sampled`, one drawn by its probability. A model with a short
            memory that always takes the likeliest step turns on the spot.
        discrete_temperature: Of that draw: divides the scores before the softmax; below 1 sharpens.
        image_channels: Channels of every image.
        pixels: `standardized` by patch and channel (the released model), or `scaled` from 0..255
            to [-1, 1] (Gato), both over sqrt(patch_size). Standardizing hides which of two darker
            colours a plain patch or its edge has.
        num_image_positions: Rows of the row and of the column embedding table.
        vision_channels: Channels inside the patch encoder.
        vision_groups: Groups of its GroupNorm; divides vision_channels.
        init_std: Standard deviation of initial weights.
        bin_init: `smooth` starts neighbouring continuous bins with near-equal embeddings.
        activation_checkpointing: Keep only each layer's input for the backward pass.

    Raises:
        ConfigError: For a size or a combination that no model can have.

    Source: Dai et al. 2019, "Transformer-XL"; Wang et al. 2022, "DeepNet"; Huang et al. 2016,
        "Deep Networks with Stochastic Depth" (`linear`); Reed et al. 2022, appendix D (`constant`);
        released DB1 model.
    """

    num_layers: Annotated[int, Range(least=1, most=4_096)] = 24
    num_heads: Annotated[int, Range(least=1, most=4_096)] = 16
    width: Annotated[int, Range(least=1, most=2**24)] = 2_048
    inner_width: Annotated[int, Range(least=1, most=2**24)] | None = None
    memory_length: Annotated[int, Range(least=0, most=2**24)] = 1_024
    same_length: bool = True
    clamp_length: Annotated[int, Range(least=1, most=2**24)] | None = None
    memory_start: str = "empty"
    position_encoding: str = "transformer_xl"
    attention: str = "auto"
    share_biases: bool = True
    normalization: str = "post"
    deepnorm: bool = False
    layer_norm_epsilon: Positive = 1e-5
    activation: str = "geglu"
    tie_embeddings: bool = True
    embedding_dropout: Rate = 0.0
    residual_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    stochastic_depth: Rate = 0.0
    stochastic_depth_rule: str = "constant"
    num_local_positions: Annotated[int, Range(least=1, most=2**24)] = 513
    patch_size: Annotated[int, Range(least=1, most=4_096)] = 16
    number_patch: Annotated[int, Range(least=1, most=4_096)] = 1
    number_width: Annotated[int, Range(least=1, most=2**16)] = 32
    continuous_choice: str = "best"
    discrete_choice: str = "best"
    discrete_temperature: Positive = 1.0
    image_channels: Annotated[int, Range(least=1, most=4_096)] = 3
    pixels: str = "standardized"
    num_image_positions: Annotated[int, Range(least=1, most=2**24)] = 128
    vision_channels: Annotated[int, Range(least=1, most=2**24)] = 64
    vision_groups: Annotated[int, Range(least=1, most=2**24)] = 32
    init_std: NonNegative = 0.02
    bin_init: str = "normal"
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices()
        self._check_combinations()

    @property
    def head_dim(self) -> int:
        """Width K of one head."""
        return self.width // self.num_heads

    @property
    def patches(self) -> PatchSizes:
        """Sizes of the patches that become one token each."""
        return PatchSizes(image=self.patch_size, numbers=self.number_patch)

    @property
    def feed_forward_width(self) -> int:
        """`inner_width` with its default filled in."""
        return 4 * self.width if self.inner_width is None else self.inner_width

    @property
    def attention_span(self) -> int | None:
        """Number of keys a query sees, itself included; None where only the causal rule holds."""
        return self.memory_length if self.same_length else None

    @property
    def residual_scale(self) -> float:
        """Factor of the residual branch (DeepNorm's alpha; 1 without)."""
        return (2.0 * self.num_layers) ** 0.25 if self.deepnorm else 1.0

    def skip_rate(self, layer: int) -> float:
        """Rate at which the sub-layers of a layer are skipped in training.

        Args:
            layer: Number of the layer, from 0.
        """
        if self.stochastic_depth_rule == "linear":
            return self.stochastic_depth * (layer + 1) / self.num_layers
        return self.stochastic_depth

    def _check_choices(self) -> None:
        for name, known in _CHOICES.items():
            check_one_of(f"model.{name}", getattr(self, name), known)

    def _check_combinations(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(
                f"model.width {self.width} is not a multiple of model.num_heads {self.num_heads}"
            )
        POSITION_ENCODINGS[self.position_encoding].check(self)
        if self.activation == "geglu" and self.feed_forward_width % 2:
            raise ConfigError(
                f"model.inner_width {self.inner_width}: geglu halves it, expected an even number"
            )
        if self.vision_channels % self.vision_groups:
            raise ConfigError(
                f"model.vision_channels {self.vision_channels} is not a multiple of "
                f"model.vision_groups {self.vision_groups}"
            )
        if self.same_length and self.memory_length == 0:
            raise ConfigError(
                "model.same_length needs a model.memory_length of at least 1, got 0; "
                "set same_length: false"
            )
        if self.deepnorm and self.normalization != "post":
            raise ConfigError(
                f"model.deepnorm goes with normalization: post, got {self.normalization!r}"
            )
