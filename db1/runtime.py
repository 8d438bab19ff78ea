"""Surroundings of a process: its rank, seeds, logging, metrics and safe file writes.

The only module below the command line that reads or sets environment variables.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Place of this process among all processes of a training.

    Args:
        rank: Number of this process, 0 for the one that writes logs and metrics.
        local_rank: Its number on this machine; picks the GPU.
        world_size: Number of processes.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True for the process that logs and writes files."""
        return self.rank == 0


def current_rank() -> Rank:
    """Reads the rank that a launcher (deepspeed, torchrun) set; one process without a launcher.

    Raises:
        ConfigError: When a launcher set RANK or WORLD_SIZE to something that is no such number.
    """
    values = {}
    for field, name, default in (
        ("rank", "RANK", "0"),
        ("local_rank", "LOCAL_RANK", "0"),
        ("world_size", "WORLD_SIZE", "1"),
    ):
        text = os.environ.get(name) or default
        if not text.isdigit():
            raise ConfigError(f"environment variable {name}: got {text!r}, expected a number")
        values[field] = int(text)
    if values["rank"] >= values["world_size"]:
        raise ConfigError(
            f"environment variable RANK is {values['rank']}, expected below WORLD_SIZE "
            f"{values['world_size']}; start through `deepspeed` or `torchrun`, or unset both"
        )
    return Rank(**values)


RENDERERS = {"egl": "EGL", "osmesa": "OSMesa"}
"""Renderers of MuJoCo that work without a display, and the library that each needs."""


def choose_renderer() -> str | None:
    """Sets MUJOCO_GL where there is no display and nobody has set it; call before MuJoCo loads.

    Returns:
        The renderer in force: EGL where its library is there, else OSMesa (software); None where
        neither is there, or where there is a display and MuJoCo chooses by itself.
    """
    if not os.environ.get("MUJOCO_GL") and not os.environ.get("DISPLAY"):
        for renderer, library in RENDERERS.items():
            if ctypes.util.find_library(library) is not None:
                os.environ["MUJOCO_GL"] = renderer
                break
    return os.environ.get("MUJOCO_GL") or None


def rendezvous() -> tuple[str, int] | None:
    """Host and port where the processes of a launch meet; None without a launcher.

    Raises:
        ConfigError: When MASTER_PORT is no port.
    """
    if "RANK" not in os.environ or "MASTER_PORT" not in os.environ:
        return None
    text = os.environ["MASTER_PORT"]
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise ConfigError(f"environment variable MASTER_PORT: got {text!r}, expected 1..65535")
    return os.environ.get("MASTER_ADDR") or "127.0.0.1", int(text)


def usable_cores() -> int:
    """Processor cores that this process may run on, by its affinity and its container's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota_of_container() or cores))


def _quota_of_container(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole cores that a container's limit on processor time allows; None without a limit."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) // int(period)
    except (OSError, ValueError):  # no such file, or `max`: no limit
        return None


def cores_for_threads() -> int:
    """Cores to be filled with threads of torch: `usable_cores`, or fewer by OMP_NUM_THREADS."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(text)) if text.isdigit() and int(text) else usable_cores()


def free_memory() -> int:
    """Bytes of memory that programs can still have, by the system and the container's limit."""
    values = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1_024
    free = values.get("MemAvailable", sys.maxsize)
    with contextlib.suppress(OSError, ValueError):  # `max`: no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    return free


def is_launched() -> bool:
    """Tells whether a launcher (deepspeed, torchrun) started this process and set its rank."""
    return "RANK" in os.environ


def publish_rank(rank: Rank, device_type: str) -> None:
    """Sets the variables that DeepSpeed reads; what a launcher or the user set stays as it is.

    Args:
        rank: Place of this process.
        device_type: `cpu` or `cuda`; spares DeepSpeed its search for an accelerator.
    """
    os.environ.setdefault("RANK", str(rank.rank))
    os.environ.setdefault("LOCAL_RANK", str(rank.local_rank))
    os.environ.setdefault("WORLD_SIZE", str(rank.world_size))
    os.environ.setdefault("DS_ACCELERATOR", device_type)


def has_display() -> bool:
    """Tells whether windows can be opened."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def draw_off_screen() -> None:
    """Lets MuJoCo and SDL draw without a display, where there is none and nobody chose how.

    MuJoCo reads its variable when it is imported: call this before.
    """
    if has_display():
        return
    choose_renderer()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def launch_environment(processes: int | None = None) -> dict[str, str]:
    """Variables for processes that this one starts, without its own place among others.

    Args:
        processes: Number of them, to share the cores among: OMP_NUM_THREADS, where nobody set it.
            None leaves it alone.
    """
    own = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
    variables = {name: value for name, value in os.environ.items() if name not in own}
    if processes is not None:
        variables.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    return variables


def master_address() -> str:
    """Rendezvous address of a training's processes, for messages: `host:port`."""
    return f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"


def plugin_places() -> list[str]:
    """Plug-ins that this process shall load, as the one that started it did (DB1_PLUGINS)."""
    return [place for place in os.environ.get("DB1_PLUGINS", "").split(os.pathsep) if place]


def add_plugin_place(place: str) -> None:
    """Lets processes that this one starts load a plug-in, too."""
    places = plugin_places()
    if place not in places:
        os.environ["DB1_PLUGINS"] = os.pathsep.join([*places, place])


def cache_folder() -> Path:
    """Folder for what can be computed again: DB1_CACHE, or ~/.cache/db1; may not exist yet."""
    given = os.environ.get("DB1_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "db1"


class _RankFilter(logging.Filter):
    """Lets everything of rank 0 pass, and warnings of the others with their rank in front."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def filter(self, record: logging.LogRecord) -> bool:
        record.rank_prefix = f"[rank {self._rank}] " if self._rank else ""
        return self._rank == 0 or record.levelno >= logging.WARNING


class _StderrHandler(logging.StreamHandler):
    """Writes to what `sys.stderr` is now, so that a progress bar can put lines above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def setup_logging(rank: int = 0, level: int = logging.INFO, handler: Any = None) -> None:
    """Sends the log of the package `db1` to stderr (or `handler`), filtered by rank.

    Calling it again replaces the handler, so that tests and notebooks do not log twice.

    Args:
        rank: Rank of this process; only rank 0 logs below warnings.
        level: Lowest level that is shown.
        handler: A `logging.Handler` to use in place of one for stderr.
    """
    handler = handler or _StderrHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname).1s %(rank_prefix)s%(message)s", "%H:%M:%S")
    )
    handler.addFilter(_RankFilter(rank))
    package = logging.getLogger("db1")
    for old in list(package.handlers):
        package.removeHandler(old)
    package.addHandler(handler)
    package.setLevel(level)
    package.propagate = False


def keep_freed_memory() -> None:
    """Tells glibc to keep large freed blocks instead of returning them to the system.

    A training step on the CPU allocates and frees the same large tensors again and again; without
    this, most of them cost fresh page faults (docs/benchmarks.md has the gain). Does nothing where
    there is no glibc.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)
    mallopt(top_pad, 1 << 28)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool = True) -> Iterator[None]:
    """Inside, torch takes the same sums in the same order each time, or raises.

    Args:
        wanted: False: does nothing.

    Raises:
        ConfigError: Naming an operation that has no such form on its device.
    """
    import torch

    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise ConfigError(
            f"training.deterministic: {str(error).splitlines()[0].split(', but')[0]}; set "
            "training.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
