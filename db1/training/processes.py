"""The processes of one training and the few words they say to each other outside of gradients."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed

from db1.errors import CheckpointError, ConfigError, DataError, Db1Error
from db1.runtime import Rank, current_rank, master_address, publish_rank

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHARED_ERRORS = {kind.__name__: kind for kind in (CheckpointError, ConfigError, DataError)}


class Processes:
    """Joins this process with the others of the launch; alone when there was no launcher.

    All messages go over CPU memory (gloo), so they never wait for the GPU.

    Args:
        engine: `deepspeed` initialises DeepSpeed's communication; `torch` stays alone.

    Attributes:
        is_waiting: True while this process waits for a word of the others.
        num_words: How often it got one.
    """

    def __init__(self, engine: str) -> None:
        self.place: Rank = current_rank()
        self.device = _device_of(self.place)
        if engine == "deepspeed":
            publish_rank(self.place, self.device.type)
            _start_deepspeed(self.place, self.device)
        self.is_waiting = False
        self.num_words = 0
        self._group = _message_group() if self.world_size > 1 and engine == "deepspeed" else None

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.place.rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.place.world_size

    def gather(self, value: Any) -> list[Any]:
        """Returns the picklable values of all processes in the order of their ranks."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        with self._waiting():
            torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Returns the value of rank 0 on all processes."""
        if self._group is None:
            return value
        values = [value]
        with self._waiting():
            torch.distributed.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Returns the sums over all processes of a few numbers, float64."""
        if self._group is None:
            return [float(value) for value in values]
        total = torch.tensor(list(values), dtype=torch.float64)
        with self._waiting():
            torch.distributed.all_reduce(total, group=self._group)
        return total.tolist()

    def barrier(self) -> None:
        """Waits for all processes."""
        if self._group is not None:
            with self._waiting():
                torch.distributed.barrier(group=self._group)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.is_waiting = True
        try:
            yield
            self.num_words += 1
        finally:
            self.is_waiting = False

    def run_and_gather(
        self, work: Callable[[], T], tell: Callable[[T], Any]
    ) -> tuple[T, list[Any]]:
        """Does this process's part of some work, and learns what the others tell about theirs.

        An error of one process is raised by all, so that none is left waiting.

        Args:
            work: Gives a result or raises a Db1Error.
            tell: Result -> what the other processes learn.

        Returns:
            This process's result, and what all processes tell, by rank.

        Raises:
            Db1Error: The one of the first process that failed.
        """
        result, error = None, None
        try:
            result = work()
        except Db1Error as caught:
            error = caught
        failure = (_shared_name(error), str(error)) if error else None
        told = self.gather((failure, None if error else tell(result)))
        for failure, _ in told:
            if failure:
                raise _SHARED_ERRORS[failure[0]](failure[1]) from error
        return result, [value for _, value in told]


def _shared_name(error: Db1Error) -> str:
    """The nearest kind of error that all processes know."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((name for name in names if name in _SHARED_ERRORS), DataError.__name__)


def _device_of(place: Rank) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", place.local_rank)
    torch.cuda.set_device(device)
    return device


def _message_group() -> Any:
    """The default group where it is gloo, else a gloo group beside it."""
    if torch.distributed.get_backend() == "gloo":
        return torch.distributed.group.WORLD
    return torch.distributed.new_group(backend="gloo")


def _start_deepspeed(place: Rank, device: torch.device) -> None:
    """Initialises torch.distributed and hands it to DeepSpeed; does nothing the second time.

    One process needs no port: it keeps its group in memory.
    """
    import deepspeed
    import deepspeed.comm.comm

    warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
    if device.type == "cpu":
        _skip_shared_memory_build()
    if not torch.distributed.is_initialized():
        backend = "gloo" if device.type == "cpu" else "nccl"
        if place.world_size == 1:
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        else:
            _meet(backend)
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), verbose=False)


def _meet(backend: str) -> None:
    """Meets the other processes at the launcher's address."""
    where = master_address()
    try:
        torch.distributed.init_process_group(backend)
    except (torch.distributed.DistNetworkError, torch.distributed.DistStoreError) as error:
        text = str(error)
        if "EADDRINUSE" in text or "address already in use" in text.lower():
            raise ConfigError(
                f"port {where} is in use by another program, most often another training; start "
                "with another one: deepspeed --master_port 29503 ..."
            ) from error
        raise ConfigError(
            f"the processes cannot meet at {where}: {text.splitlines()[0]}; check that the first "
            "machine runs, has that name, and lets others connect to that port"
        ) from error


def is_lost_contact(error: BaseException) -> bool:
    """True for what torch.distributed raises when another process is gone."""
    signs = ("connection closed by peer", "connection reset", "broken pipe", "nccl", "gloo")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def _skip_shared_memory_build() -> None:
    """Keeps DeepSpeed from compiling `deepspeed_shm_comm`.

    The extension takes about 100 s to build, holds 132 MiB of shared memory, and serves inference
    only. A DeepSpeed that has no such hook any more builds what it needs.
    """
    module = sys.modules.get("deepspeed.comm.torch")
    if hasattr(module, "build_shm_op"):
        module.build_shm_op = lambda: None
    else:
        logger.warning("this DeepSpeed has no build_shm_op: its first start on a CPU may compile")
