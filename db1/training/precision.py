"""`training.precision: auto`: bf16 where the device computes it natively, else fp32.

An experiment is resolved when it is read, so that a run's folder holds what it is trained in; a
run that is there already goes on in its own precision, on whatever machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from db1.config import load_yaml
from db1.training.config import AUTO_PRECISION, TrainingConfig

_CPU_FLAGS = ("avx512_bf16", "amx_bf16")
_CPU_INFO = Path("/proc/cpuinfo")
_CONFIG_FILE = "config.yaml"


def resolve_precision(training: TrainingConfig, run_folder: Path) -> TrainingConfig:
    """The settings with the precision that `auto` stands for; others as they are.

    Args:
        training: Settings.
        run_folder: The run, which may be there already.
    """
    if training.precision != AUTO_PRECISION:
        return training
    precision = _precision_of_run(run_folder) or ("bf16" if computes_bf16() else "fp32")
    stage = training.zero_stage
    if precision == "bf16" and training.engine == "deepspeed":
        stage = max(1, stage)  # stage 0 is refused there
    return replace(training, precision=precision, zero_stage=stage)


def computes_bf16(cpu_info: Path = _CPU_INFO) -> bool:
    """Tells whether this machine's GPU, or without one its processor, multiplies bf16 natively.

    Args:
        cpu_info: The system's description of the processor.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line[:5] == "flags"), [])
    return any(flag in flags for flag in _CPU_FLAGS)


def _precision_of_run(run_folder: Path) -> str | None:
    path = run_folder / _CONFIG_FILE
    if not path.is_file():
        return None
    return (load_yaml(path, is_own=False).get("training") or {}).get("precision")
