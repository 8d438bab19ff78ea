"""Two machines on one: network namespaces with their own host names, addresses and ssh daemons.

    node-a 10.231.7.1 ---- veth ---- 10.231.7.2 node-b

A process in a node sees its network only. Linux, root, `ip`, `sshd`, `ssh` and `pdsh` are needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TOOLS = ("ip", "unshare", "ssh", "ssh-keygen", "pdsh", "mount")
ADDRESSES = {"node-a": "10.231.7.1", "node-b": "10.231.7.2"}
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def missing() -> str | None:
    """Why there can be no nodes here; None where there can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    tools = [tool for tool in TOOLS if shutil.which(tool) is None] + ["sshd"] * (SSHD is None)
    if tools:
        return f"needs {', '.join(tools)}: apt-get install iproute2 openssh-server pdsh"
    probe = f"db1-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespaces here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class TwoNodes:
    """A context manager; `command` runs something in a node.

    Args:
        folder: For keys and logs; `folder / "hosts"` becomes the hostfile, one process a node.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hostfile = folder / "hosts"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._names = {node: f"db1-{node}-{os.getpid()}" for node in ADDRESSES}

    def __enter__(self) -> TwoNodes:
        try:
            self._write_keys()
            self._connect()
            for node in ADDRESSES:
                self._start_daemon(node)
        except BaseException:
            self.__exit__()
            raise
        self.hostfile.write_text("".join(f"{node} slots=1\n" for node in ADDRESSES))
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait(10)
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)

    def command(self, node: str, words: Sequence[str]) -> list[str]:
        """The words as a command inside a node, with its host name and its ssh keys."""
        inside = 'hostname "$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
        home = Path.home() / ".ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shell = ("unshare", "--uts", "sh", "-c", inside, node, str(self.folder / "ssh"), str(home))
        return ["ip", "netns", "exec", self._names[node], *shell, *words]

    def _write_keys(self) -> None:
        keys = self.folder / "ssh"
        keys.mkdir(mode=0o700)
        for name in ("id_ed25519", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True
            )
        shutil.copy(keys / "id_ed25519.pub", keys / "authorized_keys")
        (keys / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n")

    def _connect(self) -> None:
        names = list(self._names.values())
        for name in names:
            _ip("netns", "add", name)
            hosts = Path("/etc/netns") / name / "hosts"
            hosts.parent.mkdir(parents=True, exist_ok=True)
            lines = ["127.0.0.1 localhost", *(f"{a} {node}" for node, a in ADDRESSES.items())]
            hosts.write_text("\n".join(lines) + "\n")
        links = ("db1-veth-a", "db1-veth-b")
        _ip("link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1],
            "netns", names[1])  # fmt: skip
        for name, link, address in zip(names, links, ADDRESSES.values(), strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            for device in ("lo", link):
                _ip("-n", name, "link", "set", device, "up")

    def _start_daemon(self, node: str) -> None:
        keys = self.folder / "ssh"
        Path("/run/sshd").mkdir(exist_ok=True)
        settings = {
            "AuthorizedKeysFile": keys / "authorized_keys",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "PermitRootLogin": "prohibit-password",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        words = [str(SSHD), "-D", "-e", "-h", str(keys / "host_key"), *options]
        with open(self.folder / f"sshd-{node}.log", "wb") as log:
            daemon = subprocess.Popen(self.command(node, words), stdout=log, stderr=log)
        self._daemons.append(daemon)
        end = time.monotonic() + 30
        probe = self.command("node-a", ["ssh", "-o", "BatchMode=yes", node, "true"])
        while subprocess.run(probe, capture_output=True).returncode:
            if daemon.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.folder / f"sshd-{node}.log").read_text())
            time.sleep(0.2)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
