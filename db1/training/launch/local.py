"""One machine without a GPU: how many processes share its cores, and how they are run.

Two processes with one thread each learn faster than one with two: no thread waits for another at
every product, and a core that another program takes slows one of them down, not both at every
product. `choose` takes one process a core where that pays; the samples of a step stay the same:
smaller micro-batches, as many sequences.

    one process     slots 0 .. 15 of a step, two threads
    two processes   slots 0 .. 7 | slots 8 .. 15, one thread each
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from db1.errors import ConfigError, MissingExtra
from db1.runtime import cores_for_threads, free_memory, is_launched, launch_environment
from db1.training.config import TrainingConfig
from db1.training.experiment import ExperimentConfig, load_experiment
from db1.training.sizing.plan import plan

logger = logging.getLogger(__name__)

LEAST_TOKENS = 1_024
"""Tokens that each process should have of a step: then adding up gradients takes less than 5 % of
it, at the 500 MB a second of two processes on a machine, whatever the model's size."""
LEAST_SECONDS = 60.0
"""Of work, on one core; a shorter training is over before more processes have started."""
FLOPS_OF_A_CORE = 4e10
"""Operations a second in float32 that a core reaches in training, about."""
MOST_MEMORY = 0.7
"""Share of the free memory that all processes together may take."""
GRACE_SECONDS = 60.0
"""For the other processes to end by themselves once one has failed."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Division of this machine's cores for a training.

    Args:
        processes: Number of them.
        overrides: key=value that keep the samples of a step, and of an evaluation, what they are.
        reason: Why there are not more; empty where that goes without saying.
    """

    processes: int
    overrides: tuple[str, ...] = ()
    reason: str = ""

    def line(self) -> str | None:
        """Line about it for a person; None: nothing to say."""
        if self.processes > 1:
            settings = f", {' '.join(self.overrides)}" if self.overrides else ""
            return (
                f"{self.processes} processes share the cores of this machine{settings}; "
                "--processes 1 trains in one"
            )
        return f"one process: {self.reason}" if self.reason else None


def for_this_machine(path: Path, overrides: Sequence[str], asked: int | None) -> Split:
    """Division of this machine for `db1 train` with an experiment.

    Args:
        path: The experiment's YAML file.
        overrides: key=value.
        asked: Processes that somebody asked for; None: chosen.

    Raises:
        ConfigError: When the experiment cannot be shared among those asked for.
    """
    import torch

    config = load_experiment(path, overrides)
    if is_launched() or asked == 1:
        return Split(processes=1)
    if torch.cuda.is_available():
        if asked:
            raise ConfigError(f"--processes {asked}: on GPUs run `db1 launch {path}`")
        return Split(processes=1)
    if asked:
        return split_into(config.training, asked)
    return choose(config, cores=cores_for_threads(), memory=free_memory())


def choose(config: ExperimentConfig, *, cores: int, memory: int) -> Split:
    """One process a core where that pays, else one.

    Args:
        config: The experiment.
        cores: Processor cores that this process may use, each with a thread.
        memory: Bytes that are free.
    """
    if (reason := _against(config, cores)) is not None:
        return Split(processes=1, reason=reason)
    for processes in range(cores, 1, -1):
        overrides = batch_overrides(config.training, processes)
        if overrides is None:
            continue
        if (reason := _too_dear(config, processes, memory)) is None:
            return Split(processes=processes, overrides=overrides)
    size = config.training.global_batch_size
    return Split(
        processes=1,
        reason=reason or f"global_batch_size {size} is not a multiple of 2 to {cores} processes",
    )


def _against(config: ExperimentConfig, cores: int) -> str | None:
    """Reason for a single process, empty where it is plain; None where more can train."""
    training = config.training
    if cores < 2:
        return ""
    if training.engine != "deepspeed":
        return f"engine {training.engine} runs one process"
    if training.num_threads is not None:
        return f"num_threads={training.num_threads} asks for threads"
    if not _has_deepspeed():
        return "deepspeed is not installed"
    return None


def _too_dear(config: ExperimentConfig, processes: int, memory: int) -> str | None:
    """Reason why so many processes would not pay; None where they would."""
    planned = plan(config)
    needed = planned.needed(planned.configured, planned.checkpointing) * processes
    seconds = planned.work.hardware / planned.num_steps / FLOPS_OF_A_CORE
    if seconds * planned.num_steps < LEAST_SECONDS:
        return "it is too short"
    if planned.tokens_per_step < LEAST_TOKENS * processes:
        return f"a step has only {planned.tokens_per_step:,} tokens"
    if needed > MOST_MEMORY * memory:
        return f"{processes} of them need about {needed / 1e9:.1f} GB of memory"
    return None


def batch_overrides(training: TrainingConfig, processes: int) -> tuple[str, ...] | None:
    """Settings under which so many processes take the samples that one takes.

    Args:
        training: Settings for one process.
        processes: How many there shall be.

    Returns:
        key=value; None where a step's sequences cannot be shared equally.
    """
    whole, micro = training.global_batch_size, training.micro_batch_size
    if whole % processes:
        return None
    size = math.gcd(micro, whole // processes)
    if size == micro:
        return ()
    evaluated = training.eval_batches * micro // size
    return (f"training.micro_batch_size={size}", f"training.eval_batches={evaluated}")


def split_into(training: TrainingConfig, processes: int) -> Split:
    """The split that somebody asked for.

    Args:
        training: Settings for one process.
        processes: At least 2.

    Raises:
        ConfigError: When the experiment cannot be shared among so many.
    """
    if training.engine != "deepspeed":
        raise ConfigError(
            f"--processes {processes}: engine {training.engine} runs one process; set "
            "training.engine=deepspeed"
        )
    if not _has_deepspeed():
        raise MissingExtra("deepspeed", "all", "training on many processes")
    found = batch_overrides(training, processes)
    if found is None:
        raise ConfigError(
            f"--processes {processes}: global_batch_size {training.global_batch_size} is not "
            "a multiple of it; choose another number, or set training.global_batch_size"
        )
    return Split(processes=processes, overrides=found)


def _has_deepspeed() -> bool:
    return importlib.util.find_spec("deepspeed") is not None


def run(path: Path, overrides: Sequence[str], processes: int) -> int:
    """Runs the processes of one training to their end.

    SIGTERM and Ctrl-C reach all of them: they save and end; a second one ends them at once.

    Args:
        path: The experiment's YAML file.
        overrides: key=value.
        processes: How many.

    Returns:
        The first exit status that is not 0, or 0.
    """
    command = (sys.executable, "-m", "db1.training", str(path), *overrides)
    ends_with_this = (sys.executable, "-m", "db1.training.callbacks.background", "0")
    command = (*ends_with_this, str(os.getpid()), *command)
    common = launch_environment(processes) | {
        "WORLD_SIZE": str(processes),
        "LOCAL_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    running = [
        subprocess.Popen(
            command,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,  # Ctrl-C comes once, through this process
        )
        for rank in range(processes)
    ]
    try:
        with _signals_to(running):
            return _wait(running)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    """Waits for all; after the first failure only for `GRACE_SECONDS`."""
    deadline = math.inf
    while True:
        states = [process.poll() for process in running]
        failed = [state for state in states if state]
        if None not in states:
            return _first_reason(failed)
        if failed:
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            if time.monotonic() > deadline:
                return _first_reason(failed)
        time.sleep(0.1)


def _first_reason(failed: Sequence[int]) -> int:
    """The exit status that tells most: bad input before a process that lost contact with it."""
    status = min(failed, key=abs, default=0)
    return status if status >= 0 else 128 - status


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def _signals_to(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    asked = 0

    def pass_on(number: int, frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            logger.warning("the training saves and ends; a second signal ends it at once")
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if asked == 1 else signal.SIGKILL)

    before = {s: signal.signal(s, pass_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
