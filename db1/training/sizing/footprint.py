"""Memory that training and acting need, from the sizes alone: no weight is allocated.

Training, by process, for P parameters, e bytes a number (2 in bf16 and fp16, else 4), W processes
and ZeRO stage s (Rajbhandari et al. 2020, "ZeRO", section 3 and figure 1; there K = 12):

    parameters        e P                            / W at stage 3
    gradients         e P                            / W from stage 2
    optimizer         K P                            / W from stage 1
                      K = 12 in bf16 and fp16: float32 weights and Adam's two moments; 8 in fp32
    buffers           DeepSpeed 0.19's defaults, see `buffer_bytes`
    activations       what autograd keeps of one micro-batch, see `Activations`

The engine `torch` shards nothing, and in bf16 and fp16 adds up its gradients in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from db1.model.batch import Batch
from db1.model.config import ModelConfig
from db1.model.loss import MAX_LOGITS
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REDUCE_BUCKET = 500_000_000
"""Numbers in DeepSpeed's buffer of gradients on their way (`reduce_bucket_size`)."""
MAX_LIVE_PARAMETERS = 1_000_000_000
"""Gathered parameters that stage 3 keeps at most (`stage3_max_live_parameters`)."""


def meta_model(config: ModelConfig, vocabulary_size: int) -> TransformerXL:
    """The decoder without storage: shapes only, whatever its size."""
    config = replace(config, bin_init="normal")  # smooth rows are computed from values
    with torch.device("meta"):
        return TransformerXL(config, vocabulary_size)


@dataclass(frozen=True, kw_only=True)
class StateMemory:
    """Bytes of one process that stay between micro-batches.

    Args:
        parameters: Weights that the model computes with.
        gradients: Their gradients.
        optimizer: Adam's moments, and float32 weights where the model computes in less.
        buffers: Of communication.
    """

    parameters: int
    gradients: int
    optimizer: int
    buffers: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.parameters + self.gradients + self.optimizer + self.buffers


def state_memory(
    num_parameters: int, precision: str, zero_stage: int, world_size: int
) -> StateMemory:
    """Bytes of one process under DeepSpeed, see the module's docstring.

    Args:
        num_parameters: P.
        precision: `fp32`, `bf16` or `fp16`.
        zero_stage: 0 to 3.
        world_size: W.
    """
    size = DTYPES[precision].itemsize
    kept = 8 if precision == "fp32" else 12

    def share(bytes_each: int, from_stage: int) -> int:
        total = num_parameters * bytes_each
        return -(-total // world_size) if zero_stage >= from_stage else total

    return StateMemory(
        parameters=share(size, 3),
        gradients=share(size, 2),
        optimizer=share(kept, 1),
        buffers=buffer_bytes(num_parameters, size, zero_stage, world_size),
    )


def torch_state_memory(num_parameters: int, precision: str) -> StateMemory:
    """Bytes under the engine `torch`: float32 gradients beside those of the micro-batch."""
    plain = state_memory(num_parameters, precision, 0, 1)
    added = 0 if precision == "fp32" else 4 * num_parameters
    return replace(plain, gradients=plain.gradients + added)


def buffer_bytes(num_parameters: int, size: int, zero_stage: int, world_size: int) -> int:
    """DeepSpeed's buffers: one reduce bucket; at stage 3 the gathered parameters, too.

    Stages 1 to 3 allocate the whole bucket, however small the model; stage 0 copies the gradients
    it sends, and sends none alone.

    Args:
        num_parameters: P.
        size: Bytes a number.
        zero_stage: 0 to 3.
        world_size: W.
    """
    if zero_stage == 0:
        return min(num_parameters, REDUCE_BUCKET) * size if world_size > 1 else 0
    gathered = min(num_parameters, MAX_LIVE_PARAMETERS) if zero_stage == 3 else 0
    return (REDUCE_BUCKET + gathered) * size


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes for one micro-batch of text, all of it to be predicted.

    `kept` and `kept_checkpointed` are what autograd saves for the backward pass, counted by running
    one and two layers on shapes alone: an exact count of the kernel that runs on GPUs. With
    activation checkpointing each layer keeps its input and its position terms, and one layer at a
    time is computed again (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

    Args:
        kept: Without activation checkpointing.
        kept_checkpointed: With it.
        logits: Of the loss: a chunk's logits, and the gradients taken with them.
        image_patch: Of the vision encoder, for each image patch among the tokens.
    """

    kept: int
    kept_checkpointed: int
    logits: int
    image_patch: int

    def total(self, checkpointing: bool) -> int:
        """Bytes at the end of the forward pass, without images."""
        return self.logits + (self.kept_checkpointed if checkpointing else self.kept)


def activations(
    config: ModelConfig, vocabulary_size: int, batch_size: int, num_tokens: int, precision: str
) -> Activations:
    """Counts a micro-batch's activations.

    Args:
        config: The model's.
        vocabulary_size: V.
        batch_size: Sequences of the micro-batch.
        num_tokens: Tokens of a sequence.
        precision: `fp32`, `bf16` or `fp16`.
    """
    dtype = DTYPES[precision]
    batch = _text_batch(batch_size, num_tokens)

    def kept(num_layers: int) -> int:
        small = replace(config, num_layers=num_layers, activation_checkpointing=False)
        model = meta_model(small, vocabulary_size).to(dtype).train()
        return saved_bytes(model, lambda: model.hidden(batch))

    one, layer = kept(1), kept(2) - kept(1)
    inputs = config.num_layers * batch_size * num_tokens * config.width * dtype.itemsize
    terms = position_bytes(meta_model(config, 1).to(dtype), num_tokens)
    return Activations(
        kept=one + (config.num_layers - 1) * layer,
        kept_checkpointed=one + inputs + terms,
        logits=loss_bytes(batch_size * num_tokens, vocabulary_size, config.width, dtype),
        image_patch=_image_patch_bytes(config, dtype),
    )


def saved_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of a forward pass, the model's own weights left out.

    Args:
        model: Its weights are not counted.
        forward: Runs the model.
    """
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storage.nbytes() for storage in storages.values())


def loss_bytes(num_targets: int, vocabulary_size: int, width: int, dtype: torch.dtype) -> int:
    """Peak of the loss: a chunk's logits, and the gradients of hidden states and table.

    Args:
        num_targets: Tokens to be predicted; beyond `MAX_LOGITS` logits they are scored in chunks.
        vocabulary_size: V.
        width: D.
        dtype: Of the weights; below 4 bytes a chunk's logits are there in float32, too.
    """
    at_once = min(num_targets, max(1, MAX_LOGITS // vocabulary_size))
    each = dtype.itemsize if dtype.itemsize >= 4 else 4 + dtype.itemsize
    logits = at_once * vocabulary_size * each
    return logits + num_targets * width * dtype.itemsize + 2 * vocabulary_size * width * 4


def _text_batch(batch_size: int, num_tokens: int) -> Batch:
    ids_BT = torch.zeros(batch_size, num_tokens, dtype=torch.int64, device="meta")
    return Batch(
        ids=ids_BT,
        local_positions=torch.full_like(ids_BT, NO_LOCAL_POSITION),
        labels=ids_BT,
        loss_mask=torch.ones_like(ids_BT, dtype=torch.bool),
    )


def _image_patch_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Bytes that one more patch keeps; the encoder's copies of its weights are left out."""
    vision = meta_model(replace(config, num_layers=1), 1).to(dtype).train().embedding.vision
    shape = (config.patch_size, config.patch_size, config.image_channels)

    def kept(num_images: int) -> int:
        pixels = torch.empty((num_images, *shape), dtype=torch.uint8, device="meta")
        return saved_bytes(vision, lambda: vision(pixels))

    return kept(2) - kept(1)


def position_bytes(model: TransformerXL, span: int) -> int:
    """Bytes of all layers' position terms for this number of keys.

    Args:
        model: On the meta device; its dtype counts.
        span: Keys.
    """
    storages = {}
    for terms in model.position_terms(span):
        for tensor in (terms.vectors, terms.scores, terms.rotations):
            if tensor is not None:
                storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
    return sum(storage.nbytes() for storage in storages.values())


@dataclass(frozen=True, kw_only=True)
class ActingMemory:
    """Bytes for acting in float32, in `batch_size` episodes at once.

    Args:
        weights: The model's.
        keys_and_values: Of the memory of all episodes, with room to grow.
        position_terms: Of all distances, shared by the episodes.
    """

    weights: int
    keys_and_values: int
    position_terms: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.weights + self.keys_and_values + self.position_terms


def acting_memory(model: TransformerXL, batch_size: int) -> ActingMemory:
    """Bytes for acting one token at a time after a full memory.

    The memory holds 2 L D numbers a token (keys and values) and a quarter more columns than tokens,
    so that it moves seldom; each layer holds its position terms for each distance.

    Args:
        model: On the meta device, in float32.
        batch_size: Episodes at once.
    """
    config = model.config
    columns = config.memory_length + max(16, config.memory_length // 4) + 1
    return ActingMemory(
        weights=4 * sum(parameter.numel() for parameter in model.parameters()),
        keys_and_values=2 * config.num_layers * config.width * 4 * columns * batch_size,
        position_terms=position_bytes(model, config.memory_length + 1),
    )
