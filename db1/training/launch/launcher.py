"""Starts a training on many processes: checks what can be checked, then DeepSpeed's launcher.

    this machine        deepspeed --num_gpus N --master_port PORT --module db1.training CONFIG ...
    many, over ssh      deepspeed --hostfile FILE --master_port PORT --module ...       (needs pdsh)
    many, without ssh   deepspeed --hostfile FILE --no_ssh --node_rank I --master_addr HOST ...
                        on each of them, I from 0

A wrong port, hostfile, batch size or configuration ends in one error before any process starts.
SIGTERM and Ctrl-C reach the training processes, which save and end; the launcher alone would give
them 30 seconds. A second one ends them at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import ConfigError, MissingExtra
from db1.options import option
from db1.runtime import launch_environment
from db1.training.experiment import load_experiment
from db1.training.launch.hostfile import address_of, is_local, read_hostfile

logger = logging.getLogger(__name__)

CPU_PROCESSES = 2
SSH_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Program to start, and its machines.

    Args:
        config: The experiment's YAML file.
        overrides: key=value.
        port: Of the first machine, where all processes meet.
        hostfile: The machines; None: this one alone.
        processes: On this machine without a hostfile; None: one a GPU, two without a GPU.
        node_rank: Number of this machine in the hostfile: starts its processes only, and whoever
            calls this starts the other machines' alike. None: the first machine starts all by ssh.
        master_address: Of the first machine; None: its name in the hostfile.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    port: int = option(29500, "Free port where the processes meet.")
    processes: int | None = option(
        None, "Processes on this machine; default: one per GPU, two without a GPU."
    )
    hostfile: Path | None = option(
        None, "File that lists the machines, one line `HOST slots=PROCESSES` each."
    )
    node_rank: int | None = option(
        None, "Without ssh: this machine's position in the hostfile, from 0."
    )
    master_address: str | None = option(
        None, "Address of the first machine; default: its name in the hostfile."
    )

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"port: got {self.port}, expected 1 to 65535, such as 29500")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"processes: got {self.processes}, expected 1 or more")
        for name in ("node_rank", "master_address"):
            if self.hostfile is None and getattr(self, name) is not None:
                raise ConfigError(f"{name} goes with a hostfile; it names the machines")
        if self.hostfile is not None and self.processes is not None:
            raise ConfigError(
                f"processes goes with this machine alone; {self.hostfile} gives each machine its "
                "slots"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A launch that passed all checks.

    Args:
        command: Of DeepSpeed's launcher.
        processes_here: Processes that share this machine's cores; None where ssh starts them all.
    """

    command: tuple[str, ...]
    processes_here: int | None


def prepare(launch: Launch) -> Plan:
    """Checks everything and returns the command of DeepSpeed's launcher.

    Raises:
        ConfigError: For a port in use, a hostfile or host that cannot be used, a configuration
            that is wrong or does not fit the number of processes.
        MissingExtra: Without DeepSpeed.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingExtra("deepspeed", "all", "training on many processes")
    num_gpus = _num_gpus()
    training = load_experiment(launch.config, launch.overrides).training
    if training.engine != "deepspeed":
        raise ConfigError(
            f"{launch.config}: engine {training.engine} runs one process without a launcher, "
            f"`db1 train {launch.config}`; or set training.engine=deepspeed"
        )
    if launch.hostfile is None:
        world_size = here = _processes_alone(launch, num_gpus)
        # Without a hostfile DeepSpeed reads /job/hostfile where there is one.
        options = ["--hostfile", os.devnull, "--num_gpus", str(here)]
    else:
        hosts = read_hostfile(launch.hostfile)
        options = _nodes(launch, hosts, num_gpus)
        world_size = sum(hosts.values())
        here = list(hosts.values())[launch.node_rank or 0] if "--no_ssh" in options else None
    try:
        training.check_processes(world_size, "cuda" if num_gpus or launch.hostfile else "cpu")
    except ConfigError as error:
        place = f"{launch.hostfile} names" if launch.hostfile else "this machine runs"
        raise ConfigError(f"{error} ({place} {world_size} processes)") from error
    command = (
        *(sys.executable, "-m", "deepspeed.launcher.runner", *options),
        *("--master_port", str(launch.port), "--log_level", "error", "--module", "db1.training"),
        *(str(launch.config), *launch.overrides),
    )
    return Plan(command=command, processes_here=here)


def shown(command: Sequence[str]) -> str:
    """The command as a person types it."""
    return shlex.join(["deepspeed", *command[3:]])


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _processes_alone(launch: Launch, num_gpus: int) -> int:
    processes = launch.processes or num_gpus or CPU_PROCESSES
    if num_gpus and processes > num_gpus:
        raise ConfigError(f"processes: got {processes}, expected at most the {num_gpus} GPUs here")
    check_port(launch.port)
    return processes


def _nodes(launch: Launch, hosts: Mapping[str, int], num_gpus: int) -> list[str]:
    """Options for the machines of a hostfile."""
    names, rank = list(hosts), launch.node_rank
    where = str(launch.hostfile)
    if rank is not None and not 0 <= rank < len(names):
        raise ConfigError(
            f"node_rank: got {rank}, expected 0 to {len(names) - 1}, the place in {where}"
        )
    master = launch.master_address or names[0]
    address = address_of(master, "master_address" if launch.master_address else where)
    for name in names if rank is None else []:
        address_of(name, where)
    here = names[rank] if rank is not None else names[0] if is_local(address) else None
    if here and num_gpus and hosts[here] > num_gpus:
        raise ConfigError(
            f"{where}: {here} has slots={hosts[here]}, expected at most its {num_gpus} GPUs"
        )
    if rank == 0 or (rank is None and here):
        check_port(launch.port)
    if here and len(names) == 1:
        rank = 0
    options = ["--hostfile", where]
    if rank is not None:
        return [*options, "--no_ssh", "--node_rank", str(rank), "--master_addr", address]
    _check_ssh(names)
    options.append("--force_multi")  # a hostfile of one other machine still means that machine
    return [*options, "--master_addr", address] if launch.master_address else options


def check_port(port: int) -> None:
    """Raises ConfigError when something listens on a port of this machine."""
    try:
        _listen(port)
    except PermissionError as error:
        raise ConfigError(
            f"port {port}: not allowed for this user ({error.strerror}); take one above 1023"
        ) from error
    except OSError as error:
        free = next((p for p in range(port + 1, 65536) if _is_free(p)), None)
        raise ConfigError(
            f"port {port} of this machine is in use{_holder(port)}; end that, or use another port"
            + (f", such as {free}" if free else "")
        ) from error


def _listen(port: int) -> None:
    """As torch's store does: on all addresses."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    socket.create_server(("", port), family=family, dualstack_ipv6=both).close()


def _is_free(port: int) -> bool:
    try:
        _listen(port)
    except OSError:
        return False
    return True


def _holder(port: int) -> str:
    """` (process 123, python)` where that can be told."""
    import psutil  # comes with DeepSpeed

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return f" (process {connection.pid}, {psutil.Process(connection.pid).name()})"
    return ""


def _check_ssh(names: Sequence[str]) -> None:
    """Raises ConfigError when pdsh is missing, or a machine lets nobody in without a password."""
    way_out = "or start each machine's processes on it with its --node-rank (NODE_RANK)"
    for tool in ("pdsh", "ssh"):
        if shutil.which(tool) is None:
            raise ConfigError(
                f"{tool} is missing, which starts processes on other machines; run: sudo apt-get "
                f"install pdsh openssh-client; {way_out}"
            )
    with ThreadPoolExecutor(max_workers=32) as pool:
        reasons = dict(zip(names, pool.map(_ssh_failure, names), strict=True))
    failed = {name: reason for name, reason in reasons.items() if reason is not None}
    if failed:
        name, reason = next(iter(failed.items()))
        raise ConfigError(
            f"no ssh without a password to {len(failed)} of {len(names)} machines "
            f"({', '.join(failed)}); {name}: {reason or 'no answer'}; run: ssh-copy-id {name}; "
            f"{way_out}"
        )


def _ssh_failure(name: str) -> str | None:
    """Reason why a command does not run on a machine; None where it does."""
    options = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={SSH_SECONDS}")
    try:
        done = subprocess.run(
            ["ssh", *options, "--", name, "true"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=2 * SSH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "no answer"
    return None if done.returncode == 0 else " ".join(done.stderr.split())


def run(plan: Plan) -> int:
    """Runs the launcher to its end; returns its exit status."""
    environment = launch_environment(plan.processes_here)
    if not _num_gpus():  # spares DeepSpeed its search, and a warning of each process
        environment.setdefault("DS_ACCELERATOR", "cpu")
    launcher = subprocess.Popen(plan.command, env=environment, start_new_session=True)
    with _signals_to(launcher, over_ssh=plan.processes_here is None):
        return launcher.wait()


@contextlib.contextmanager
def _signals_to(launcher: subprocess.Popen[Any], *, over_ssh: bool) -> Iterator[None]:
    asked = 0

    def pass_on(number: int, frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1 and _ask_to_stop(launcher.pid):
            logger.warning("the training saves and ends; a second signal ends it at once")
        elif over_ssh:
            if asked == 1:
                logger.warning("stopping all machines; they have 30 seconds to save")
            launcher.send_signal(signal.SIGTERM)  # it runs pkill on all of them
        else:
            _end(launcher.pid)

    before = {s: signal.signal(s, pass_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ask_to_stop(launcher: int) -> bool:
    """SIGTERM to this machine's training processes; False where there are none yet."""
    import psutil

    asked = False
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(launcher).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = process.parent()
                if parent and parent.cmdline()[2:4] == ["-m", "deepspeed.launcher.launch"]:
                    process.send_signal(signal.SIGTERM)
                    asked = True
    return asked


def _end(launcher: int) -> None:
    """SIGTERM to the launchers of this machine, which end all its processes."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(launcher)
        for each in (*process.children(), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM)
