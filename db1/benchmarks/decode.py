"""Acting one token at a time: cached keys and values against what they replace.

    db1             keys, values and position vectors of the memory are cached
    ring            the same in place, at fixed addresses; on a GPU a step is one captured graph
    hidden states   the memory holds the layers' inputs; each token projects all M + 1 of them to
                    queries, keys and values, and the M + 1 position vectors again: the released way
    whole text      no memory: each token runs the whole text so far through the model

All have the same weights and see the same tokens; their outputs are compared before the clock runs.
Scoring ids is left out on all sides.

Shapes: B batch, T query tokens (1), M memory tokens, S = M + T keys, H heads, K head width,
D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import torch
from torch import Tensor

from db1.benchmarks.timing import OURS, Comparison, Contender, clock_of, compare
from db1.errors import ConfigError, Db1Error, check_one_of
from db1.model.config import ModelConfig
from db1.model.memory import Memory
from db1.model.positions import sinusoids
from db1.model.ring import RingMemory
from db1.model.ring_graph import CapturedStep
from db1.model.transformer_xl import DecoderLayer, TransformerXL
from db1.options import option
from db1.ranges import Checked, Count, Range, Seed
from db1.sequence.segment import NO_LOCAL_POSITION

TOLERANCES = {"fp32": 1e-4, "bf16": 0.15}
"""Largest difference of two contenders' outputs, which LayerNorm keeps near 1."""

_VOCABULARY_SIZE = 512
_CHECKED_TOKENS = 3
_PIECE = 16
"""Tokens of the context that a ring takes at once; it has room for so many more."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Width = Annotated[int, Range(least=2)]
Threads = Annotated[int, Range(least=1, most=4_096)]


@dataclass(frozen=True, kw_only=True)
class DecodeBenchmark(Checked):
    """Sizes of the measurement.

    Args:
        width: D.
        num_layers: Layers.
        num_heads: H.
        memory_length: M.
        batch_size: B.
        num_tokens: Tokens that db1 decodes in a round; the slower ones decode one.
        rounds: Rounds of each contender.
        whole: Also measure recomputing the whole text.
        precision: `fp32` or `bf16`.
        device: `cpu` or `cuda`.
        threads: Threads of torch; None leaves its choice.
        seed: Of weights and tokens.
    """

    width: Width = option(2_048, "Width of the model.")
    num_layers: Count = option(2, "Layers of the model.", name="layers")
    num_heads: Count = option(16, "Attention heads.", name="heads")
    memory_length: Count = option(1_024, "Tokens of memory.", name="memory")
    batch_size: Count = option(1, "Episodes at once.", name="batch")
    num_tokens: Count = option(16, "Tokens that db1 decodes per round.", name="tokens")
    rounds: Count = option(5, "Rounds of each contender.")
    whole: bool = option(True, "Also measure recomputing the whole text.", two_way=True)
    precision: str = option("fp32", "fp32 or bf16.")
    device: str = option("cpu", "cpu or cuda.")
    threads: Threads | None = option(1, "Threads that torch may use.")
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("precision", self.precision, _DTYPES)
        check_device(self.device)

    def small(self) -> DecodeBenchmark:
        """The same measurement in seconds."""
        return replace(self, width=256, num_layers=2, num_heads=8, memory_length=256)

    @property
    def model(self) -> ModelConfig:
        """The released model's options at these sizes."""
        return ModelConfig(
            width=self.width,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            memory_length=self.memory_length,
        )


Progress = Callable[[str, int, int], None]


@torch.inference_mode()
def run(config: DecodeBenchmark, progress: Progress | None = None) -> Comparison:
    """Compares the outputs, then times the contenders in turns.

    Args:
        config: Sizes.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        Db1Error: When the contenders' outputs differ by more than `TOLERANCES` allow.
    """
    with threads_of_torch(config.threads):
        generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = TransformerXL(config.model, _VOCABULARY_SIZE).eval()
        model = model.to(config.device, _DTYPES[config.precision])
        shape = (config.batch_size, config.memory_length + _CHECKED_TOKENS)
        ids_BT = torch.randint(_VOCABULARY_SIZE, shape, generator=generator).to(config.device)
        context, following = ids_BT.split([config.memory_length, _CHECKED_TOKENS], dim=1)
        decoders: dict[str, Decoder] = {OURS: CachedDecoder(model, context)}
        decoders["ring"] = RingDecoder(model, context)
        decoders["hidden states"] = HiddenStateDecoder(model, context)
        if config.whole:
            decoders["whole text"] = WholeTextDecoder(model, context)
        difference = _compare_outputs(decoders, following, TOLERANCES[config.precision])
        return compare(
            f"decode: width {config.width}, {config.num_layers} layers, memory "
            f"{config.memory_length}, batch {config.batch_size}, {config.precision}, "
            f"{config.device}, {torch.get_num_threads()} thread(s)",
            "token",
            _contenders(config, decoders, following[:, :1]),
            rounds=config.rounds,
            clock=clock_of(config.device),
            notes={"largest difference of the outputs": difference} | _bytes(config, model),
            progress=progress,
        )


def _bytes(config: DecodeBenchmark, model: TransformerXL) -> dict[str, float]:
    """Least bytes read for a token: the layers, and a memory's keys, values and positions."""
    size = _DTYPES[config.precision].itemsize
    weights = sum(parameter.numel() for parameter in model.layers.parameters())
    positions = config.num_layers * config.width * config.memory_length
    memory = 2 * config.batch_size * positions
    return {"MB that a token has to read": size * (weights + positions + memory) / 1e6}


def check_device(device: str) -> None:
    """Raises ConfigError for a device that is unknown or not here."""
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"--device: got {device!r}, expected cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: no GPU here; leave it out to measure the CPU")


def _contenders(
    config: DecodeBenchmark, decoders: dict[str, Decoder], ids_B1: Tensor
) -> list[Contender]:
    def several(decoder: Decoder, count: int) -> Callable[[], None]:
        def steps() -> None:
            for _ in range(count):
                decoder.step(ids_B1)
            if ids_B1.is_cuda:
                torch.cuda.synchronize()

        return steps

    fast = (OURS, "ring")
    counts = {name: config.num_tokens if name in fast else 1 for name in decoders}
    return [
        Contender(name=name, run=several(decoder, counts[name]), amount=counts[name])
        for name, decoder in decoders.items()
    ]


def _compare_outputs(decoders: dict[str, Decoder], ids_BT: Tensor, tolerance: float) -> float:
    """Feeds the same tokens to all; returns the largest difference from db1's outputs."""
    largest = 0.0
    for ids_B1 in ids_BT.split(1, dim=1):
        outputs = {name: decoder.step(ids_B1) for name, decoder in decoders.items()}
        for name, hidden in outputs.items():
            difference = float((hidden - outputs[OURS]).abs().max())
            if not difference <= tolerance:
                raise Db1Error(
                    f"outputs of {OURS} and {name!r} differ by {difference:.2e}, expected at most "
                    f"{tolerance}; the figures would compare different work"
                )
            largest = max(largest, difference)
    return largest


class Decoder(Protocol):
    """One way to decode."""

    def step(self, ids_BT: Tensor) -> Tensor:
        """Runs the next tokens; returns the last one's hidden state (B, D)."""


class RingDecoder:
    """A memory that goes on in one way only, in place, on a GPU as one captured graph.

    Args:
        model: The decoder, in evaluation mode.
        context_BT: Tokens before the first one decoded, int64 (B, M).
    """

    def __init__(self, model: TransformerXL, context_BT: Tensor) -> None:
        self._ring = RingMemory(model, len(context_BT), most_tokens=_PIECE)
        self._captured = CapturedStep(self._ring) if context_BT.is_cuda else None
        for piece in context_BT.split(_PIECE, dim=1):
            self._ring.decode(piece, torch.full_like(piece, NO_LOCAL_POSITION))

    def step(self, ids_BT: Tensor) -> Tensor:
        """Runs the next tokens; returns the last one's hidden state (B, D)."""
        places_BT = torch.full_like(ids_BT, NO_LOCAL_POSITION)
        run = self._captured or self._ring.decode
        return run(ids_BT, places_BT)[:, -1]


class CachedDecoder:
    """db1's own way of acting.

    Args:
        model: The decoder, in evaluation mode.
        context_BT: Tokens before the first one decoded, int64 (B, M).
    """

    def __init__(self, model: TransformerXL, context_BT: Tensor) -> None:
        self._model = model
        self._memory: Memory | None = None
        self.step(context_BT)

    def step(self, ids_BT: Tensor) -> Tensor:
        """Runs the next tokens; returns the last one's hidden state (B, D)."""
        places_BT = torch.full_like(ids_BT, NO_LOCAL_POSITION)
        hidden_BTD, self._memory = self._model.decode(ids_BT, places_BT, (), self._memory)
        return hidden_BTD[:, -1]


class WholeTextDecoder:
    """No memory: the text grows, and all of it runs through the model for each token.

    Args:
        model: The decoder, in evaluation mode.
        context_BT: Tokens before the first one decoded, int64 (B, M).
    """

    def __init__(self, model: TransformerXL, context_BT: Tensor) -> None:
        self._model = model
        self._ids_BT = context_BT

    def step(self, ids_BT: Tensor) -> Tensor:
        """Runs the next tokens after all before; returns the last one's hidden state (B, D)."""
        self._ids_BT = torch.cat([self._ids_BT, ids_BT], dim=1)
        places_BT = torch.full_like(self._ids_BT, NO_LOCAL_POSITION)
        hidden_BTD, _ = self._model.recur(self._ids_BT, places_BT)
        return hidden_BTD[:, -1]


class HiddenStateDecoder:
    """The released model's way, written here operation by operation for one token at a time.

    Written for its options: post-LN, shared biases, same_length, sinusoid positions, no DeepNorm.

    Args:
        model: The decoder, in evaluation mode.
        context_BT: Tokens before the first one decoded, int64 (B, M).

    Source: released DB1 model, `RelPartialLearnableMultiHeadAttn` and `_update_mem`.
    """

    def __init__(self, model: TransformerXL, context_BT: Tensor) -> None:
        self._model = model
        self._length = model.config.memory_length
        places_BT = torch.full_like(context_BT, NO_LOCAL_POSITION)
        _, memory_LBMD = model.recur(context_BT, places_BT)
        self._memories = list(memory_LBMD)

    def step(self, ids_B1: Tensor) -> Tensor:
        """Runs the next token; returns its hidden state (B, D)."""
        config = self._model.config
        x_B1D = self._model.embedding(ids_B1, torch.full_like(ids_B1, NO_LOCAL_POSITION), ())
        num_keys = self._memories[0].shape[1] + 1
        distances = torch.arange(num_keys - 1, -1, -1.0, device=x_B1D.device)
        features_SD = sinusoids(distances, config.width, config.clamp_length).to(x_B1D.dtype)
        inputs = []
        for layer, memory_BMD in zip(self._model.layers, self._memories, strict=True):
            inputs.append(x_B1D)
            x_B1D = self._layer(layer, x_B1D, memory_BMD, features_SD)
        grown = (torch.cat(pair, dim=1) for pair in zip(self._memories, inputs, strict=True))
        self._memories = [both[:, -self._length :] for both in grown]
        return x_B1D[:, -1]

    def _layer(
        self, layer: DecoderLayer, x_B1D: Tensor, memory_BMD: Tensor, features_SD: Tensor
    ) -> Tensor:
        mixed = self._attention(layer, x_B1D, memory_BMD, features_SD)
        x_B1D = layer.attention_norm(x_B1D + mixed)
        return layer.feed_forward_norm(x_B1D + layer.feed_forward(x_B1D))

    def _attention(
        self, layer: DecoderLayer, x_B1D: Tensor, memory_BMD: Tensor, features_SD: Tensor
    ) -> Tensor:
        attention, split = layer.attention, (self._model.config.num_heads, -1)
        qkv = attention.qkv(torch.cat([memory_BMD, x_B1D], dim=1))
        q, k, v = (part.unflatten(-1, split) for part in qkv.chunk(3, dim=-1))
        q_B1HK = q[:, -1:]
        r_SHK = attention.positions.projection(features_SD).unflatten(-1, split)
        content = torch.einsum("bthk,bshk->btsh", q_B1HK + self._model.content_bias, k)
        position = torch.einsum("bthk,shk->btsh", q_B1HK + self._model.position_bias, r_SHK)
        scores = (content + position) * attention.scale
        scores[:, :, : max(0, k.shape[1] - self._length)] = -1e30  # same_length: M keys, not M + 1
        mixed = torch.einsum("btsh,bshk->bthk", scores.softmax(dim=2), v)
        return attention.output(mixed.flatten(2))


@contextmanager
def threads_of_torch(count: int | None) -> Iterator[None]:
    """Runs the block with so many threads of torch; None leaves its choice."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
