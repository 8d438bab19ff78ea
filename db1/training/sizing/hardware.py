"""Best performance of a training's machine, and the memory that the training took.

Peaks are those of the makers' data sheets, dense (no sparsity), a multiplication and an addition
counted as two operations; bf16 and fp16 with float32 sums. fp32 is without TensorFloat-32, which
db1 leaves off as torch does.
"""

from __future__ import annotations

import re
import resource

import torch

_TERA = 1e12
PEAKS: tuple[tuple[str, float, float], ...] = (
    # name as torch has it, 10^12 operations a second in bf16 (fp16) and in fp32
    (r"\bB200\b", 2250, 75),
    (r"\bGH200\b", 989, 67),
    (r"\bH200\b", 989, 67),
    (r"\bH100 NVL\b", 835, 60),
    (r"\bH100 PCIe\b", 756, 51),
    (r"\bH100\b", 989, 67),
    (r"\bH800\b", 989, 67),
    (r"\bH20\b", 148, 44),
    (r"\bA100\b", 312, 19.5),
    (r"\bA800\b", 312, 19.5),
    (r"\bA40\b", 149.7, 37.4),
    (r"\bA30\b", 165, 10.3),
    (r"\bA10G\b", 70, 35),
    (r"\bA10\b", 125, 31.2),
    (r"\bL40S\b", 362, 91.6),
    (r"\bL40\b", 181, 90.5),
    (r"\bL4\b", 121, 30.3),
    (r"\bRTX A6000\b", 154.8, 38.7),
    (r"\bRTX 6000 Ada\b", 364, 91.1),
    (r"\bRTX 5090\b", 209.5, 104.8),
    (r"\bRTX 4090\b", 165.2, 82.6),
    (r"\bRTX 3090\b", 71, 35.6),
    (r"\bV100\b", 125, 15.7),
    (r"\bT4\b", 65, 8.1),
    (r"\bMI325X\b", 1307, 163.4),
    (r"\bMI300X\b", 1307, 163.4),
    (r"\bMI250X?\b", 191.5, 23.9),  # one of its two dies, as torch sees it
)
"""The first pattern that a GPU's name contains counts."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second of one process's device at best; None where that is not known.

    Args:
        device: Of the process; a CPU has no known peak.
        precision: `fp32`, `bf16` or `fp16`.
    """
    if device.type != "cuda":
        return None
    return peak_of_gpu(torch.cuda.get_device_name(device), precision)


def peak_of_gpu(name: str, precision: str) -> float | None:
    """`peak_flops` of a GPU by the name that torch gives it."""
    for pattern, low, full in PEAKS:
        if re.search(pattern, name):
            return (full if precision == "fp32" else low) * _TERA
    return None


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
