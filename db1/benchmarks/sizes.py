"""Measures the training of several sizes one after the other, each at a batch that fits."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from db1.benchmarks.throughput import OUT_OF_MEMORY, WARM_UP_STEPS, Job
from db1.benchmarks.timing import machine
from db1.errors import ConfigError, nearest
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.runtime import launch_environment
from db1.training.experiment import ExperimentConfig, load_experiment
from db1.training.sizing.plan import plan

USABLE = 0.85
"""Of the memory; the rest is for fragments, workspaces and the context."""
LARGEST_MICRO_BATCH = 64
LEAST_PLAIN = 4
"""Below so many sequences at once, computing activations twice costs less than small batches."""
RESULTS_FILE, TABLE_FILE = "results.json", "table.md"
_COLUMNS = (
    ("size", lambda r: r["name"]),
    ("parameters", lambda r: f"{r['parameters']:,}"),
    ("micro-batch", lambda r: f"{r['micro_batch_size']}{_recomputed(r)}"),
    ("tokens/s", lambda r: f"{r['tokens_per_second']:,.0f}"),
    ("TFLOP/s", lambda r: f"{r['flops_per_second'] / 1e12:.4g}"),
    ("MFU", lambda r: "-" if r.get("mfu") is None else f"{100 * r['mfu']:.1f} %"),
    ("of a matrix product", lambda r: f"{100 * _of_product(r):.1f} %"),
    ("s a step", lambda r: f"{r['step_seconds']:.3g}"),
    ("waiting for data, s", lambda r: f"{r['data_wait_seconds']:.3g}"),
    ("memory, GiB", lambda r: f"{r['peak_memory_bytes'] / 2**30:.1f}"),
)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Batch with which a size is trained on this machine.

    Args:
        micro_batch_size: Sequences at once.
        checkpointing: Compute activations twice to save memory.
    """

    micro_batch_size: int
    checkpointing: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """As key=value."""
        return (
            f"training.micro_batch_size={self.micro_batch_size}",
            f"model.activation_checkpointing={str(self.checkpointing).lower()}",
        )


def config_of(size: str) -> Path:
    """`79m` -> configs/db1_79m.yaml; a path of a YAML file stays.

    Raises:
        ConfigError: Naming the sizes that there are.
    """
    path = Path(size)
    if path.suffix in (".yaml", ".yml"):
        return path
    path = Path("configs") / f"db1_{size}.yaml"
    if not path.is_file():
        known = sorted(p.stem.removeprefix("db1_") for p in path.parent.glob("db1_*.yaml"))
        raise ConfigError(
            f"size {size!r}: no {path} below {Path.cwd()}, expected one of {known}"
            f"{nearest(size, known)} or a YAML file"
        )
    return path


def device_memory() -> int:
    """Bytes of the first GPU; without one those that this machine has free."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    import psutil  # comes with DeepSpeed

    return psutil.virtual_memory().available


def batches(config: ExperimentConfig, memory: int) -> Iterator[Batch]:
    """Ways to train, the first one that should fit first, then ever smaller ones.

    Args:
        config: The experiment.
        memory: Bytes of the device.
    """
    whole = config.training.global_batch_size
    largest = LARGEST_MICRO_BATCH if torch.cuda.is_available() else config.training.micro_batch_size
    sizes = [n for n in (2**i for i in range(10, -1, -1)) if n <= largest and whole % n == 0]
    ways = [Batch(micro_batch_size=n, checkpointing=True) for n in sizes]
    if not config.model.activation_checkpointing:
        plain = [n for n in sizes if n >= min(LEAST_PLAIN, sizes[0])]
        ways = [Batch(micro_batch_size=n, checkpointing=False) for n in plain] + ways
    fitting = (i for i, way in enumerate(ways) if _needed(config, way) <= USABLE * memory)
    yield from ways[next(fitting, len(ways) - 1) :]


def _needed(config: ExperimentConfig, way: Batch) -> int:
    training = replace(config.training, micro_batch_size=way.micro_batch_size)
    planned = plan(replace(config, training=training))
    return planned.needed(planned.configured, way.checkpointing)


def bench_sizes(
    sizes: Sequence[str],
    *,
    minutes: float,
    precision: str,
    out: Path,
    overrides: Sequence[str] = (),
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measures all sizes; writes results.json and table.md after each of them.

    Args:
        sizes: See `config_of`.
        minutes: For each size.
        precision: `fp32`, `bf16` or `fp16`.
        out: Folder of both files.
        overrides: key=value for all sizes.
        tell: Is told what goes on.

    Returns:
        The content of results.json: `machine`, `results`, and `failures` by size.
    """
    jobs = {size: _job(size, precision, overrides, 60 * minutes) for size in sizes}
    make_folder(out)
    content: dict[str, Any] = {
        "machine": machine() | {"gpus": torch.cuda.device_count(), "deepspeed": _deepspeed()},
        "minutes": minutes,
        "overrides": list(overrides),
        "results": [],
        "failures": {},
    }
    for size, job in jobs.items():
        for way in batches(load_experiment(job.config, job.overrides), device_memory()):
            tell(f"{size}: {minutes:g} min, {_words(way)}")
            status, found = _measured(replace(job, overrides=(*job.overrides, *way.overrides)))
            if status != OUT_OF_MEMORY:
                break
            tell(f"{size}: {_words(way)} does not fit")
        if isinstance(found, str):
            content["failures"][size] = found
        else:
            content["results"].append(found)
        atomic_write_text(out / RESULTS_FILE, json.dumps(content, indent=1) + "\n")
        atomic_write_text(out / TABLE_FILE, markdown(content))
    return content


def _job(size: str, precision: str, overrides: Sequence[str], seconds: float) -> Job:
    """Job that measures a size, its batch apart; raises ConfigError for what cannot be measured."""
    path = config_of(size)
    training = load_experiment(path, overrides).training
    settings = [*overrides, f"training.precision={precision}"]
    if training.engine == "deepspeed" and training.zero_stage == 0 and precision == "bf16":
        settings.append("training.zero_stage=1")  # stage 0 is refused there
    load_experiment(path, settings)
    return Job(config=str(path), overrides=tuple(settings), seconds=seconds)


def _measured(job: Job) -> tuple[int, dict[str, Any] | str]:
    """Exit status of a process that measures, and what it found or said last."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = (sys.executable, "-m", "db1.benchmarks.throughput", json.dumps(asdict(job)))
        done = subprocess.run(
            [*command, str(file)],
            env=launch_environment(1),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if file.is_file():
            return done.returncode, json.loads(file.read_text(encoding="utf-8"))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, f"exit status {done.returncode}: {lines[-1] if lines else 'no output'}"


def markdown(content: Mapping[str, Any]) -> str:
    """The results as a table."""
    found, results = content["machine"], content["results"]
    devices = sorted({result["device"] for result in results})
    lines = [
        f"Training, {content['minutes']:g} minutes a size after {WARM_UP_STEPS} warm-up steps, "
        f"synthetic text, one process. Device: {', '.join(devices) or '-'} ({found['processor']}); "
        f"torch {found['torch']}, deepspeed {found['deepspeed']}, Python {found['python']}.",
        *(f"Settings: `{setting}`." for setting in content["overrides"]),
        "",
        "| " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|" + "---|" * len(_COLUMNS),
        *("| " + " | ".join(show(result) for _, show in _COLUMNS) + " |" for result in results),
        "",
        "MFU: model operations (attention of visible keys only, nothing that is computed twice) by "
        "the peak of the maker's data sheet. `of a matrix product`: by what one large product of "
        "the same precision reaches on this device.",
    ]
    lines += [f"{size} failed: {reason}" for size, reason in content["failures"].items()]
    return "\n".join(lines) + "\n"


def _of_product(result: Mapping[str, Any]) -> float:
    return result["flops_per_second"] / result["matmul_flops_per_second"]


def _recomputed(result: Mapping[str, Any]) -> str:
    return ", activations twice" if result["activation_checkpointing"] else ""


def _words(way: Batch) -> str:
    twice = " with activation checkpointing" if way.checkpointing else ""
    return f"micro-batches of {way.micro_batch_size}{twice}"


def _deepspeed() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("deepspeed")
    except PackageNotFoundError:
        return "none"
