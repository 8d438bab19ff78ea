"""Resident memory of processes, as Linux tells it. Imports nothing that would fill it before.

resident      pages of a process that lie in memory; libraries count in every process
proportional  likewise, each page divided by the number of processes that share it: the sum over
              all of them is what they take together
own           pages that nobody shares: what is free again when the process ends
"""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class ProcessMemory:
    """Megabytes of one process, see above; `peak` is the largest resident memory so far."""

    resident: float
    proportional: float
    own: float
    peak: float


def status_megabytes(field: str, process: int | str = "self") -> float | None:
    """Megabytes of a field of a process's status, as VmRSS or VmHWM; None where unknown."""
    found = _fields(_PROCESSES / str(process) / "status").get(field)
    return None if found is None else found / 1_024


def process_memory(process: int | str = "self") -> ProcessMemory | None:
    """Memory of a process; None where the system does not tell."""
    shares = _fields(_PROCESSES / str(process) / "smaps_rollup")
    peak = status_megabytes("VmHWM", process)
    if "Pss" not in shares or peak is None:
        return None
    own = shares["Private_Clean"] + shares["Private_Dirty"]
    return ProcessMemory(
        resident=shares["Rss"] / 1_024,
        proportional=shares["Pss"] / 1_024,
        own=own / 1_024,
        peak=peak,
    )


def reset_peak() -> bool:
    """Gives freed memory back, and makes VmHWM begin anew; False where that cannot be done."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_PROCESSES / "self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _fields(path: Path) -> dict[str, int]:
    """Kibibytes by the name of the field; empty where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and value.endswith(" kB"):
            found[name] = int(value.split()[0])
    return found
