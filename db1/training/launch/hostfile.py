"""The machines of a training: DeepSpeed's hostfile, read strictly.

# name        processes there: one a GPU
worker-0      slots=8
me@worker-1   slots=8
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from db1.errors import ConfigError

_LINE = re.compile(r"(\S+)\s+slots=([0-9]{1,5})")
"""DeepSpeed reads the same file, and knows no blanks around the equals sign."""

_NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9_:][\w.:%-]*", re.ASCII)
"""A machine's name or address: nothing that ssh or a shell takes for an option or a command."""


def read_hostfile(path: Path | str) -> dict[str, int]:
    """Returns the processes of each host, in the order of the file: the first one is the master.

    Raises:
        ConfigError: Naming the line that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such hostfile"
        raise ConfigError(
            f"{path}: {what}, expected a text file with a line `HOST slots=PROCESSES` for each "
            "machine; leave it out to train on this machine alone"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as a text file ({error})") from error
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if text:
            name, slots = _entry(text, f"{path}, line {number}")
            if name in hosts:
                raise ConfigError(
                    f"{path}, line {number}: host {name!r} is listed twice; give "
                    "it one line with all "
                    "its slots"
                )
            hosts[name] = slots
    if not hosts:
        raise ConfigError(f"{path}: names no host, expected lines such as `worker-0 slots=8`")
    return hosts


def _entry(text: str, where: str) -> tuple[str, int]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{where}: got {text!r}, expected `HOST slots=PROCESSES` without blanks around the '='"
        )
    if "[" in match[1]:
        raise ConfigError(f"{where}: got {match[1]!r}, expected an address without brackets")
    check_host(match[1], where)
    slots = int(match[2])
    if slots < 1:
        raise ConfigError(f"{where}: got slots={slots}, expected 1 or more; or remove the line")
    return match[1], slots


def check_host(host: str, where: str) -> None:
    """Refuses what is not the name of a machine: names go to ssh, files come from strangers.

    Raises:
        ConfigError: For other characters, or a `-` in front.
    """
    if _NAME.fullmatch(host) is None:
        raise ConfigError(
            f"{where}: got host {host!r}, expected the name or address of a machine (letters, "
            "digits, '.', '-', '_', ':'), with `user@` in front of it or not"
        )


def address_of(host: str, where: str) -> str:
    """The host's address.

    Args:
        host: Name or address; `user@` in front of it is for ssh, and plays no part here.
        where: What names it, for the message.

    Raises:
        ConfigError: For a name that is not known here.
    """
    check_host(host, where)
    try:
        name = host.rpartition("@")[2]
        return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except UnicodeError as error:
        raise ConfigError(f"{where}: host {host!r} is not the name of a machine") from error
    except OSError as error:
        raise ConfigError(
            f"{where}: host {host!r} has no address here ({error.strerror or error}); check its "
            "spelling, or enter it in /etc/hosts"
        ) from error


def is_local(address: str) -> bool:
    """True where an address is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
