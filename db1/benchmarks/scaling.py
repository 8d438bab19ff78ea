"""Scaling on paper: memory, communication and speed of data parallelism, from the sizes alone.

    a step's compute        tokens * operations a token / (GPUs * peak * MFU)
    a step's communication  collectives.py
    efficiency              compute / max(compute, communication), if all of it overlaps;
                            compute / (compute + communication), if none does

Parameters, memory and operations are those of `db1 train --dry-run` (`db1.training.sizing`); what
readers must deliver is in delivery.py. Nothing runs on a GPU, and nothing was measured on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from db1.benchmarks.collectives import Network
from db1.benchmarks.delivery import Storage, measure, needs
from db1.benchmarks.scaled_step import Cluster, ModelSize, Step
from db1.benchmarks.sizes import USABLE, config_of
from db1.benchmarks.timing import machine
from db1.errors import ConfigError
from db1.options import option
from db1.ranges import Checked, Count, NonNegative, Positive, Range
from db1.training.experiment import ExperimentConfig, load_experiment

SHAPES = {
    "3b": {"num_layers": 40, "num_heads": 20, "width": 2_560, "inner_width": 10_240},
    "10b": {"num_layers": 42, "num_heads": 36, "width": 4_608, "inner_width": 18_432},
}
"""Sizes without a configuration: those of 1.2b but for these keys; nobody trained them."""
GOOD = 0.9
"""Efficiency from which on data parallelism counts as enough."""
BATCH, MEMORY, NETWORK = "batch", "memory", "network"
"""Reasons for an end: a GPU has one sequence only, nothing fits, the network is too slow."""
_MOST = 2**20

Progress = Callable[[str, int, int], None]

_GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class ScalingBenchmark(Checked):
    """Options of `db1 bench scaling`.

    Args:
        sizes: Sizes by name, or YAML files, with commas.
        gpus: Numbers of GPUs, with commas.
        batch: Sequences of a step; None: those of the configuration.
        sequence: Tokens of a sequence; None: those of the configuration.
        peak_tflops: Operations a second of a GPU at best, in 10^12.
        mfu: Share of them that training reaches, nothing waiting for the network.
        memory_gb: Memory of a GPU, in 10^9 bytes.
        node: GPUs of a machine.
        within_gbs: Of a GPU to those of its machine, in 10^9 bytes a second and direction.
        between_gbs: Of a GPU's network adapter, the same.
        latency_us: Of a round of messages, in microseconds.
        storage_gbs: Of a machine's network file system, in 10^9 bytes a second.
        storage_ms: Of an access to it, in milliseconds.
    """

    sizes: str = option(
        "79m,364m,1.2b,3b,10b", "Sizes, with commas: 79m, 364m, 1.2b, 3b, 10b or YAML files."
    )
    gpus: str = option("1,8,64,512,1024", "Numbers of GPUs, with commas.")
    batch: Annotated[int, Range(least=1, most=2**24)] | None = option(
        None, "Sequences of a step; default: the configuration's."
    )
    sequence: Annotated[int, Range(least=1, most=2**24)] | None = option(
        None, "Tokens of a sequence; default: the configuration's."
    )
    peak_tflops: Positive = option(989.0, "Peak of a GPU, 10^12 operations a second.")
    mfu: Annotated[float, Range(above=0, most=1)] = option(0.45, "Share of the peak in use.")
    memory_gb: Positive = option(80.0, "Memory of a GPU, 10^9 bytes.")
    node: Count = option(8, "GPUs of a machine.", panel="Network")
    within_gbs: Positive = option(
        450.0, "A GPU's bandwidth in its machine, 10^9 bytes a second.", panel="Network"
    )
    between_gbs: Positive = option(
        50.0, "A GPU's bandwidth between machines, 10^9 bytes a second.", panel="Network"
    )
    latency_us: NonNegative = option(5.0, "Microseconds of a round of messages.", panel="Network")
    storage_gbs: Positive = option(
        1.0, "A machine's bandwidth to stored data, 10^9 bytes a second.", panel="Data"
    )
    storage_ms: NonNegative = option(1.0, "Milliseconds of an access to stored data.", panel="Data")

    @property
    def cluster(self) -> Cluster:
        """The GPUs in bytes, operations and seconds."""
        return Cluster(
            flops=self.peak_tflops * 1e12 * self.mfu,
            memory=USABLE * self.memory_gb * _GIGA,
            network=Network(
                node=self.node,
                within=self.within_gbs * _GIGA,
                between=self.between_gbs * _GIGA,
                latency=self.latency_us * 1e-6,
            ),
        )

    def named_sizes(self) -> list[str]:
        """The sizes one by one.

        Raises:
            ConfigError: There is none.
        """
        names = [name.strip() for name in self.sizes.split(",") if name.strip()]
        if not names:
            raise ConfigError(f"--sizes: got {self.sizes!r}, expected names such as 79m,1.2b")
        return list(dict.fromkeys(names))

    def gpu_counts(self) -> list[int]:
        """The numbers of GPUs, in order.

        Raises:
            ConfigError: One is no whole number, or out of range.
        """
        words = [word.strip() for word in self.gpus.split(",")]
        for word in words:
            if not (
                word.isascii() and word.isdigit() and len(word) <= 9 and 0 < int(word) <= _MOST
            ):
                raise ConfigError(
                    f"--gpus: got {word!r}, expected whole numbers from 1 to {_MOST:,} with commas "
                    "between them, such as 1,8,64"
                )
        return sorted({int(word) for word in words})


def experiment_of(name: str, options: ScalingBenchmark) -> ExperimentConfig:
    """The experiment of a size, with the options' batch and sequence.

    Args:
        name: Of `SHAPES`, of a configuration, or of a YAML file.
        options: Of the benchmark.

    Raises:
        ConfigError: No such size, or values that cannot be.
    """
    settings = [f"model.{key}={value}" for key, value in SHAPES.get(name, {}).items()]
    if options.sequence is not None:
        settings.append(f"sequence.length={options.sequence}")
    try:
        config = config_of("1.2b" if name in SHAPES else name)
    except ConfigError as error:
        raise ConfigError(f"{error}, or of the shapes {', '.join(SHAPES)}") from error
    found = load_experiment(config, settings)
    if options.batch is None:
        return found
    usual = found.training.micro_batch_size
    most = max(n for n in range(1, usual + 1) if options.batch % n == 0)
    training = replace(found.training, global_batch_size=options.batch, micro_batch_size=most)
    return replace(found, training=training)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The most GPUs at which data parallelism is still `GOOD`.

    Args:
        gpus: Their number; None: at no number.
        why: Reason why there are no more, `BATCH`, `MEMORY` or `NETWORK`.
        step: The step there.
    """

    gpus: int | None
    why: str
    step: Step | None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`."""
        return {
            "gpus": self.gpus,
            "why": self.why,
            "step": None if self.step is None else self.step.to_dict(),
        }


def limit(steps: Sequence[tuple[int, Step | None]], efficiency: Callable[[Step], float]) -> Limit:
    """Finds the last number of GPUs whose best step is efficient enough, and why it is the last.

    Args:
        steps: Numbers of GPUs that share the batch equally, in order, with their best steps.
        efficiency: Of a step.
    """
    good = [
        place
        for place, (_, step) in enumerate(steps)
        if step is not None and efficiency(step) >= GOOD
    ]
    if not good:
        fits = any(step is not None for _, step in steps)
        return Limit(gpus=None, why=NETWORK if fits else MEMORY, step=None)
    last = good[-1]
    gpus, step = steps[last]
    if last + 1 == len(steps):
        return Limit(gpus=gpus, why=BATCH, step=step)
    return Limit(gpus=gpus, why=MEMORY if steps[last + 1][1] is None else NETWORK, step=step)


def limits(steps: Sequence[tuple[int, Step | None]]) -> dict[str, Any]:
    """Numbers of GPUs at which data parallelism begins and ends.

    Args:
        steps: As of `limit`.
    """
    return {
        "least_gpus": next((gpus for gpus, step in steps if step is not None), None),
        "overlapped": limit(steps, lambda step: step.overlapped).to_dict(),
        "not_overlapped": limit(steps, lambda step: step.plain).to_dict(),
    }


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def scale(size: ModelSize, gpus: Iterable[int]) -> dict[str, Any]:
    """All figures of a size.

    Args:
        size: The size.
        gpus: Numbers of GPUs to be tabled.
    """
    one = size.activations(1)
    best = [(count, size.best_step(count)) for count in _divisors(size.batch)]
    return {
        "name": size.name,
        "parameters": size.num_parameters,
        "precision": size.precision,
        "batch": size.batch,
        "sequence": size.length,
        "operations_a_token": size.work.per_token,
        "tokens_a_second_of_a_gpu": size.cluster.flops / size.work.per_token,
        "activations_of_a_sequence": {
            "kept": one.total(False),
            "recomputed": one.total(True),
            "image_patch": one.image_patch,
        },
        "rows": [_row(size, count, stage) for count in gpus for stage in range(4)],
        "best": [{"gpus": n, "step": step and step.to_dict()} for n, step in best],
        "limits": limits(best),
    }


def _row(size: ModelSize, gpus: int, stage: int) -> dict[str, Any]:
    """One number of GPUs at one stage; without a step where the batch cannot be shared."""
    row: dict[str, Any] = {"gpus": gpus, "zero_stage": stage, "step": None}
    row["state"] = asdict(size.state(stage, gpus))
    step = size.usual_step(gpus, stage)
    if step is not None:
        kept = size.activations(step.micro_batch)
        row["step"] = step.to_dict()
        row["activations"] = {"kept": kept.total(False), "recomputed": kept.total(True)}
    return row


def run(
    options: ScalingBenchmark, quick: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Works out all figures, and measures what readers deliver.

    Args:
        options: Of the benchmark.
        quick: Measure with little data.
        progress: Called with (work, finished rounds, all rounds).

    Raises:
        ConfigError: For options that cannot be.
    """
    gpus = options.gpu_counts()
    experiments = {name: experiment_of(name, options) for name in options.named_sizes()}
    tables = []
    for done, (name, found) in enumerate(experiments.items(), 1):
        tables.append(scale(ModelSize(_label(name), found, options.cluster), gpus))
        if progress is not None:
            progress("sizes", done, len(experiments))
    delivered = measure(quick, progress)
    storage = Storage(bandwidth=options.storage_gbs * _GIGA, latency=options.storage_ms * 1e-3)
    return {
        "machine": machine(),
        "assumed": asdict(options),
        "sizes": tables,
        "measured": [each.to_dict() for each in delivered],
        "needed": needs(tables, delivered, options.node, storage),
    }


def _label(name: str) -> str:
    """`configs/own.yaml` -> `own`; other names stay."""
    path = Path(name)
    return path.stem if path.suffix in (".yaml", ".yml") else name
