"""One training step, forward and backward, against the released model's formulation of it.

Both have the same weights and the same batch; loss and gradients are compared before the clock
runs. The optimizer's step, which both would take alike, is left out. On a CPU with one thread the
clock is the processor's, which other programs disturb less.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from db1.benchmarks.decode import Progress, Threads, Width, check_device, threads_of_torch
from db1.benchmarks.memory import reset_peak, status_megabytes
from db1.benchmarks.released_step import ReleasedFormulation
from db1.benchmarks.step_counts import counts_of_layer, graph_breaks
from db1.benchmarks.throughput import matmul_flops
from db1.benchmarks.timing import OURS, Comparison, Contender, clock_of, compare
from db1.errors import Db1Error, check_one_of
from db1.model.batch import Batch
from db1.model.config import ModelConfig
from db1.model.loss import target_places
from db1.model.transformer_xl import TransformerXL
from db1.options import option
from db1.ranges import Checked, Count, Range, Seed, Share
from db1.runtime import keep_freed_memory
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.training.sizing.work import parameters_by_part, work

RELEASED = "released"
TOLERANCES = {"fp32": 2e-3, "bf16": 5e-2}
"""Largest difference of losses and gradients, relative to the largest of them."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class StepBenchmark(Checked):
    """Sizes of the measurement.

    Args:
        width: D.
        num_layers: L.
        num_heads: H.
        length: Tokens of a sequence, and keys that a token sees.
        batch_size: Sequences.
        vocabulary_size: V; the released model has 33,025 ids.
        targets: Share of the tokens that are to be predicted: 1 as in text, about 0.1 in control.
        precision: `fp32` or `bf16`.
        device: `cpu` or `cuda`.
        rounds: Rounds of each contender.
        threads: Threads of torch; None leaves its choice.
        seed: Of weights and tokens.
    """

    width: Width = option(256, "Width of the model.")
    num_layers: Count = option(4, "Layers of the model.", name="layers")
    num_heads: Count = option(8, "Attention heads.", name="heads")
    length: Annotated[int, Range(least=2)] = option(1_024, "Tokens per sequence.")
    batch_size: Count = option(2, "Sequences.", name="batch")
    vocabulary_size: Annotated[int, Range(least=2)] = option(
        33_025, "Size of the vocabulary.", name="ids"
    )
    targets: Share = 1.0
    precision: str = option("fp32", "fp32 or bf16.")
    device: str = option("cpu", "cpu or cuda.")
    rounds: Count = option(5, "Rounds of each contender.")
    threads: Threads | None = option(1, "Threads that torch may use.")
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("precision", self.precision, _DTYPES)
        check_device(self.device)

    def small(self) -> StepBenchmark:
        """The same measurement in seconds."""
        return replace(self, width=64, num_layers=2, num_heads=4, length=128, vocabulary_size=1_000)

    @property
    def model(self) -> ModelConfig:
        """The released model's options at these sizes."""
        return ModelConfig(
            width=self.width,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            memory_length=self.length,
        )


def run(config: StepBenchmark, progress: Progress | None = None) -> Comparison:
    """Compares losses and gradients, measures memory, then times the contenders in turns.

    Args:
        config: Sizes.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        Db1Error: When losses or gradients differ.
    """
    with threads_of_torch(config.threads):
        model, batch = _model(config), random_batch(config)
        steps = {OURS: lambda: model(batch).loss_sum, RELEASED: _released(model, batch)}
        runs = {name: _step(model, loss) for name, loss in steps.items()}
        notes = {"largest difference, relative": _compare(model, steps, config.precision)}
        for name, step in runs.items():
            if (peak := peak_of(step, torch.device(config.device))) is not None:
                notes[f"peak memory beyond weights, MB, {name}"] = peak / 1e6
        keep_freed_memory()
        for step in runs.values():
            step()
        comparison = compare(
            f"training step: width {config.width}, {config.num_layers} layers, "
            f"{config.batch_size} x {config.length} tokens, "
            f"{100 * config.targets:.0f} % of them targets, {config.precision}, {config.device}, "
            f"{torch.get_num_threads()} thread(s)",
            "step",
            [Contender(name=name, run=step) for name, step in runs.items()],
            rounds=config.rounds,
            notes=notes | _counts(config),
            clock=clock_of(config.device),
            progress=progress,
        )
        return _with_roofline(config, model, comparison)


def _counts(config: StepBenchmark) -> dict[str, float]:
    sizes = (config.model, config.batch_size, config.length)
    return counts_of_layer(*sizes) | graph_breaks(*sizes)


def _model(config: StepBenchmark) -> TransformerXL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = TransformerXL(config.model, config.vocabulary_size)
    return model.to(config.device, _DTYPES[config.precision]).train()


def random_batch(config: StepBenchmark) -> Batch:
    """Random ids; the first tokens of each sequence to be predicted are as many as `targets`."""
    generator = torch.Generator().manual_seed(config.seed)
    shape = (config.batch_size, config.length)
    ids_BT = torch.randint(config.vocabulary_size, shape, generator=generator)
    chance_BT = torch.rand(shape, generator=generator)
    mask_BT = chance_BT.argsort(dim=1) < round(config.targets * config.length)
    tensors = {
        "ids": ids_BT,
        "local_positions": torch.full(shape, NO_LOCAL_POSITION),
        "labels": ids_BT.roll(-1, dims=1),
        "loss_mask": mask_BT,
        "target_places": target_places(mask_BT),
    }
    return Batch(**{name: tensor.to(config.device) for name, tensor in tensors.items()})


def _released(model: TransformerXL, batch: Batch) -> Callable[[], Tensor]:
    formulation = ReleasedFormulation(model)
    return lambda: formulation.loss_sum(batch)[0]


def _step(model: TransformerXL, loss: Callable[[], Tensor]) -> Callable[[], None]:
    cuda = next(model.parameters()).is_cuda

    def step() -> None:
        loss().backward()
        model.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()

    return step


def _compare(model: TransformerXL, steps: dict[str, Callable[[], Tensor]], precision: str) -> float:
    """Largest difference of loss and gradients, each relative to its largest number."""
    found = {}
    for name, loss in steps.items():
        value = loss()
        value.backward()
        found[name] = {"loss": value.detach()}
        found[name] |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
    largest, where = 0.0, ""
    for name, theirs in found[RELEASED].items():
        size = float(theirs.float().abs().max()) or 1.0
        difference = float((found[OURS][name].float() - theirs.float()).abs().max()) / size
        if not difference <= largest:
            largest, where = difference, name
    if not largest <= TOLERANCES[precision]:
        raise Db1Error(
            f"{where} of {OURS} and {RELEASED!r} differ by {largest:.2e} of their size, expected "
            f"at most {TOLERANCES[precision]}; the figures would compare different work"
        )
    return largest


def peak_of(step: Callable[[], None], device: torch.device) -> int | None:
    """Bytes that a step takes at most beyond what is there before it; None where unknown.

    Args:
        step: Runs twice, the first time to make what stays.
        device: A GPU tells by itself, Linux for the process.
    """
    step()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if not reset_peak():
        return None
    before = status_megabytes("VmRSS")
    step()
    peak = status_megabytes("VmHWM")
    return None if before is None or peak is None else int((peak - before) * (1 << 20))


def _with_roofline(
    config: StepBenchmark, model: TransformerXL, comparison: Comparison
) -> Comparison:
    """Adds the work of a step and what the device could do at best."""
    parts = parameters_by_part(model)
    tokens = config.batch_size * config.length
    done = work(config.model, parts, config.vocabulary_size, config.length, tokens)
    outputs = round(config.targets * config.length) * config.batch_size * done.output
    operations = (done.layers + done.attention) * tokens + outputs
    clock = clock_of(config.device)
    peak = matmul_flops(torch.device(config.device), config.precision, clock=clock)
    ours = next(t for t in comparison.timings if t.name == OURS)
    roofline = {
        "operations of a step, 10^9": operations / 1e9,
        "10^9 operations a second, db1": operations / ours.median / 1e9,
        "10^9 operations a second, one large product": peak / 1e9,
        "least ms at that speed": 1e3 * operations / peak,
    }
    return Comparison(
        work=comparison.work,
        unit=comparison.unit,
        timings=comparison.timings,
        notes={**comparison.notes, **roofline},
    )
