"""One layer's attention, forward and backward: db1's choice beside the other kernels.

All contenders get the same operands; their outputs and gradients are compared with the reference in
at least float32 before the clock runs. Beside the times stand, for each contender, the memory it
takes at most, and for the work itself the least that any kernel must do: bytes read and written
once, and products over the visible pairs. The device's own copy and matrix product, timed in the
same run, turn these into a limit (a roofline).

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from db1.benchmarks.decode import Threads, threads_of_torch
from db1.benchmarks.timing import OURS, Comparison, Contender, compare
from db1.errors import ConfigError, Db1Error, check_one_of
from db1.model.attention_kernels import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
)
from db1.model.attention_plan import choose_kernel
from db1.model.positions import alibi_slopes, descending_distances
from db1.model.visibility import Visibility
from db1.options import option
from db1.ranges import Checked, Count, Natural

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ENCODINGS = ("transformer_xl", "alibi", "none")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference from the reference, as a part of the tensor's largest number."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class AttentionBenchmark(Checked):
    """Sizes of the measurement.

    Args:
        batch_size: B.
        num_heads: H.
        head_dim: K.
        num_tokens: T.
        memory: M.
        encoding: Of `ENCODINGS`; `rotary` is `none` to a kernel.
        precision: Of `PRECISIONS`.
        device: Where it runs.
        against: Kernels beside db1's choice.
        rounds: Rounds of each contender.
        threads: Threads of torch; None leaves its choice.
        seed: Of the operands.
    """

    batch_size: Count = option(4, "Sequences.", name="batch")
    num_heads: Count = option(8, "Attention heads.", name="heads")
    head_dim: Count = option(32, "Width of each head.", name="head_width")
    num_tokens: Count = option(1_024, "Tokens of each sequence.", name="tokens")
    memory: Natural = option(0, "Tokens of memory before them.")
    encoding: str = option(
        "transformer_xl", "transformer_xl, alibi or none (rotary is none to a kernel)."
    )
    precision: str = option("fp32", "fp32, bf16 or fp16.")
    device: str = option("cpu", "cpu or cuda.")
    against: tuple[str, ...] = option(
        ("sdpa", "reference"),
        "Kernel beside db1's choice (repeatable); default: sdpa, reference.",
    )
    rounds: Count = option(5, "Rounds of each contender.")
    threads: Threads | None = option(1, "Threads that torch may use.")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("encoding", ENCODINGS), ("precision", tuple(PRECISIONS))):
            check_one_of(name, getattr(self, name), known)
        for name in self.against:
            ATTENTION_KERNELS[name]

    def small(self) -> AttentionBenchmark:
        """The same measurement in seconds."""
        return replace(self, num_tokens=128, memory=0, batch_size=2, num_heads=2)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the operands."""
        return PRECISIONS[self.precision]

    @property
    def visible_pairs(self) -> int:
        """Pairs of a query and a key it sees, of one head of one row."""
        return self.num_tokens * self.memory + self.num_tokens * (self.num_tokens + 1) // 2


def run(config: AttentionBenchmark, progress: Progress | None = None) -> Comparison:
    """Compares results with the reference, measures memory, then times the contenders in turns.

    Raises:
        ConfigError: When a kernel to be measured cannot serve.
        Db1Error: When results differ from the reference's by more than rounding.
    """
    with threads_of_torch(config.threads):
        leaves = _operands(config)
        passes = {name: _Pass(config, kernel, leaves) for name, kernel in _kernels(config).items()}
        difference = _compare_results(config, passes, leaves)
        peaks = {name: _peak_memory(one, config.device) for name, one in passes.items()}
        return compare(
            f"attention, forward and backward: {config.batch_size} x {config.num_tokens} tokens, "
            f"memory {config.memory}, {config.num_heads} heads of {config.head_dim}, "
            f"{config.encoding}, {config.precision}, {config.device}",
            "pass",
            [Contender(name=name, run=one) for name, one in passes.items()],
            rounds=config.rounds,
            notes={
                "db1's kernel": passes[OURS].kernel.name,
                "largest difference from the reference, relative": difference,
                **{f"peak memory of {name}, MB": peak / 1e6 for name, peak in peaks.items()},
                **_limits(config, leaves),
            },
            progress=progress,
        )


def _kernels(config: AttentionBenchmark) -> dict[str, AttentionKernel]:
    """db1's choice and the kernels beside it, by name."""
    request = AttentionRequest(
        device=torch.device(config.device),
        dtype=config.dtype,
        head_dim=config.head_dim,
        num_queries=config.num_tokens,
        dropout=0.0,
        needs_grad=True,
    )
    kernels = {OURS: choose_kernel("auto", request)}
    for name in config.against:
        kernel = ATTENTION_KERNELS[name]
        if reason := kernel.refusal(request):
            raise ConfigError(f"attention kernel {name!r}: {reason}; leave it out of --against")
        kernels[name] = kernel
    return kernels


def _operands(config: AttentionBenchmark) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(config.seed)
    num_keys = config.memory + config.num_tokens
    sides = (config.batch_size, config.num_heads)
    shapes = {
        "q": (*sides, config.num_tokens, config.head_dim),
        "k": (*sides, num_keys, config.head_dim),
        "v": (*sides, num_keys, config.head_dim),
        "content_bias": (config.num_heads, config.head_dim),
    }
    if config.encoding == "transformer_xl":
        shapes["position_bias"] = (config.num_heads, config.head_dim)
        shapes["vectors"] = (config.num_heads, num_keys + 1, config.head_dim)
    leaves = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator).to(config.device, config.dtype)
        leaves[name] = drawn.requires_grad_()
    if config.encoding == "alibi":
        distances = descending_distances(num_keys, torch.zeros(()))
        slopes = torch.tensor(alibi_slopes(config.num_heads))
        leaves["scores"] = (-slopes[:, None] * distances).to(config.device, config.dtype)
    return leaves


class _Pass:
    """A contender's forward and backward pass.

    Args:
        config: Sizes.
        kernel: What computes it.
        leaves: Operands, by the names of `AttentionInputs`.
    """

    def __init__(
        self, config: AttentionBenchmark, kernel: AttentionKernel, leaves: dict[str, Tensor]
    ) -> None:
        rule = Visibility(
            num_queries=config.num_tokens,
            num_keys=config.memory + config.num_tokens,
            span=None,
            valid_keys=None,
            dtype=config.dtype,
            device=torch.device(config.device),
        )
        self.kernel = kernel
        self._visibility = kernel.prepare(rule)
        self._inputs = AttentionInputs(scale=config.head_dim**-0.5, **leaves)
        self._learned = [x for x in leaves.values() if x.requires_grad]
        self._grad = torch.ones_like(leaves["q"])

    def __call__(self) -> list[Tensor]:
        """Output and gradients; waits for the device."""
        out = self.kernel(self._inputs, self._visibility, 0.0)
        grads = torch.autograd.grad(out, self._learned, self._grad)
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        return [out.detach(), *grads]


def _compare_results(
    config: AttentionBenchmark, passes: dict[str, _Pass], leaves: dict[str, Tensor]
) -> float:
    """Largest difference from the reference, relative to each tensor's largest number."""
    expected = _Pass(config, ATTENTION_KERNELS["reference"], leaves)()
    largest = 0.0
    for name, one in passes.items():
        for got, wanted in zip(one(), expected, strict=True):
            size = max(float(wanted.abs().max()), 1.0)
            difference = float((got - wanted).abs().max()) / size
            if not difference <= TOLERANCE[config.dtype]:
                raise Db1Error(
                    f"results of {name!r} ({one.kernel.name}) differ from the reference's by "
                    f"{difference:.2e}, expected at most {TOLERANCE[config.dtype]}; the figures "
                    "would compare different work"
                )
            largest = max(largest, difference)
    return largest


def _peak_memory(work: Callable[[], object], device: str) -> int:
    """Bytes that one pass allocates at most, its results included."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    profiler = torch.profiler.profile(activities=activities, profile_memory=True)
    with _native_output_silenced(), profiler:
        results = work()
    del results
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _native_output_silenced() -> Iterator[None]:
    """Keeps what libraries write past Python off the screen: the profiler tells when it starts."""
    with open(os.devnull, "wb") as nowhere:
        kept = [os.dup(1), os.dup(2)]
        try:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            yield
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


def _limits(config: AttentionBenchmark, leaves: dict[str, Tensor]) -> dict[str, float]:
    """The least work of a pass, and the time that this device needs for it at its full speed.

    Bytes: each operand once in the forward and once in the backward pass, output and its gradient
    once each way, each gradient once. Operations: products over the visible pairs, two forward and
    five backward, and with position vectors one and three more.
    """
    learned = sum(x.numel() for x in leaves.values() if x.requires_grad)
    numbers = 2 * sum(x.numel() for x in leaves.values()) + learned + 3 * leaves["q"].numel()
    num_bytes = numbers * leaves["q"].element_size()
    products = 7 if config.encoding != "transformer_xl" else 11
    pairs = config.batch_size * config.num_heads * config.visible_pairs
    operations = 2 * products * pairs * config.head_dim
    bandwidth, speed = _device_speeds(config)
    return {
        "bytes at least, MB": num_bytes / 1e6,
        "operations, GFLOP": operations / 1e9,
        "this device copies, GB/s": bandwidth / 1e9,
        "this device multiplies, GFLOP/s": speed / 1e9,
        "limit by bytes and operations, ms": 1e3 * max(num_bytes / bandwidth, operations / speed),
    }


def _device_speeds(config: AttentionBenchmark) -> tuple[float, float]:
    """Bytes a second of a copy (read and written) and operations a second of a matrix product."""
    on_gpu = torch.device(config.device).type == "cuda"
    source = torch.zeros((256 if on_gpu else 64) << 20, dtype=torch.uint8, device=config.device)
    target = torch.empty_like(source)
    copying = _fastest(lambda: target.copy_(source), config.device)
    side = 8_192 if on_gpu else 1_024
    matrix = torch.ones(side, side, dtype=config.dtype, device=config.device)
    multiplying = _fastest(lambda: matrix @ matrix, config.device)
    return 2 * source.numel() / copying, 2 * side**3 / multiplying


def _fastest(work: Callable[[], object], device: str, times: int = 5) -> float:
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
