"""Scoring a text: a memory against reading a window of the same length again for every token.

    recomputed window     each token runs the L tokens before it through the model: how models
                          without a memory are evaluated, one token at a time
    hidden-state memory   segments of T tokens after the layers' inputs at the last L tokens, which
                          are projected to keys and values again for each segment
                          (Transformer-XL, and the released model)
    db1                   the same segments after cached keys and values

One token of work is one token scored. The memories' outputs are compared before the clock runs;
windows differ from them, since a memory of several layers reaches further back than a window.
Scoring ids is left out on all sides. Time is that of the processor, which others on the machine
disturb less.

Source: Dai et al. 2019, table 9.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from db1.benchmarks.decode import TOLERANCES, Threads, Width, threads_of_torch
from db1.benchmarks.timing import OURS, Comparison, Contender, compare
from db1.errors import Db1Error
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.options import option
from db1.ranges import Checked, Count, Seed
from db1.sequence.segment import NO_LOCAL_POSITION

WINDOW, HIDDEN = "recomputed window", "hidden-state memory"
PUBLISHED = {800: 363, 1_800: 773, 2_800: 1_409, 3_800: 1_874}
"""Transformer-XL's speed-up over recomputed windows by attention length (its table 9, a GPU)."""

_VOCABULARY_SIZE = 512

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PerplexityBenchmark(Checked):
    """Sizes of the measurement.

    Args:
        attention_lengths: L, one comparison each.
        target_length: T, tokens of a segment with a memory.
        width: Of the model.
        num_layers: Of the model.
        num_heads: Of the model.
        rounds: Rounds of each contender.
        threads: Threads of torch; None leaves its choice.
        seed: Of weights and tokens.
    """

    attention_lengths: tuple[Count, ...] = option(
        (800, 1_800, 2_800, 3_800),
        "Attention length (repeatable); default: 800, 1800, 2800, 3800.",
        name="length",
    )
    target_length: Count = option(128, "Tokens scored at once, with memory.")
    width: Width = option(256, "Width of the model.")
    num_layers: Count = option(4, "Layers of the model.", name="layers")
    num_heads: Count = option(8, "Attention heads.", name="heads")
    rounds: Count = option(3, "Rounds of each contender.")
    threads: Threads | None = option(1, "Threads that torch may use.")
    seed: Seed = 0

    def small(self) -> PerplexityBenchmark:
        """The same measurement in seconds."""
        return replace(self, width=64, num_layers=2, num_heads=4, attention_lengths=(100, 200))


@torch.no_grad()
def run(config: PerplexityBenchmark, progress: Progress | None = None) -> list[Comparison]:
    """One comparison for each attention length.

    Raises:
        Db1Error: When the memories' outputs differ by more than the tolerance.
    """
    with threads_of_torch(config.threads):
        return [_compare(config, length, progress) for length in config.attention_lengths]


def _compare(config: PerplexityBenchmark, length: int, progress: Progress | None) -> Comparison:
    model = _model(config, length)
    generator = torch.Generator().manual_seed(config.seed)
    num_tokens = length + config.target_length
    ids_1T = torch.randint(_VOCABULARY_SIZE, (1, num_tokens), generator=generator)
    scorers = _Scorers(model, ids_1T, length)
    difference = float((scorers.cached() - scorers.hidden_states()).abs().max())
    if not difference <= TOLERANCES["fp32"]:
        raise Db1Error(
            f"outputs of {OURS} and {HIDDEN!r} differ by {difference:.2e}, expected at most "
            f"{TOLERANCES['fp32']}; the figures would compare different work"
        )
    notes = {"largest difference of the memories' outputs": difference}
    if length in PUBLISHED:
        notes["Transformer-XL reports, window against hidden-state memory"] = PUBLISHED[length]
    target = config.target_length
    scorers.window()  # the memories are warm already
    comparison = compare(
        f"perplexity: attention length {length}, {target} tokens at once, width {config.width}, "
        f"{config.num_layers} layers, {torch.get_num_threads()} thread(s)",
        "token",
        [
            Contender(name=OURS, run=scorers.cached, amount=target),
            Contender(name=HIDDEN, run=scorers.hidden_states, amount=target),
            Contender(name=WINDOW, run=scorers.window),
        ],
        rounds=config.rounds,
        notes=notes,
        clock=time.process_time,
        progress=progress,
    )
    medians = {timing.name: timing.median for timing in comparison.timings}
    notes[f"{HIDDEN} is faster than {WINDOW} by"] = medians[WINDOW] / medians[HIDDEN]
    return comparison


class _Scorers:
    """The ways to score a text after `length` tokens; each call scores the next ones.

    Args:
        model: Decoder in evaluation mode.
        ids_1T: Context and targets, int64 (1, length + T); the same targets come again.
        length: Tokens of context.
    """

    def __init__(self, model: TransformerXL, ids_1T: Tensor, length: int) -> None:
        self._model = model
        context, self._targets = ids_1T[:, :length], ids_1T[:, length:]
        _, self._hidden = model.recur(context, _nowhere(context))
        empty = model.new_memory(1, length)
        _, self._memory = model.decode(context, _nowhere(context), (), empty)
        self._window = ids_1T[:, 1 : length + 1]

    def cached(self) -> Tensor:
        """The next segment after cached keys and values; hidden states (1, T, D)."""
        targets = self._targets
        hidden, self._memory = self._model.decode(targets, _nowhere(targets), (), self._memory)
        return hidden

    def hidden_states(self) -> Tensor:
        """The next segment after remembered hidden states; hidden states (1, T, D)."""
        targets = self._targets
        hidden, self._hidden = self._model.recur(targets, _nowhere(targets), (), self._hidden)
        return hidden

    def window(self) -> Tensor:
        """One token at the end of a window that is read again; hidden states (1, L, D).

        By the kernel for learning, which is the fastest for a whole text (and keeps nothing for a
        backward pass, since no weight asks for a gradient).
        """
        with torch.enable_grad():
            return self._model.recur(self._window, _nowhere(self._window))[0]


def _model(config: PerplexityBenchmark, length: int) -> TransformerXL:
    sizes = ModelConfig(
        width=config.width,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        memory_length=length,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TransformerXL(sizes, _VOCABULARY_SIZE).eval().requires_grad_(False)


def _nowhere(ids_BT: Tensor) -> Tensor:
    return torch.full_like(ids_BT, NO_LOCAL_POSITION)
