"""What is checked before a training on many processes starts, and the launcher's command."""

import socket
from pathlib import Path

import pytest
from ports import free_port

from db1.errors import ConfigError
from db1.training.launch import launcher as launching
from db1.training.launch.hostfile import is_local, read_hostfile
from db1.training.launch.launcher import Launch, check_port, prepare, shown

TINY = Path(__file__).parents[3] / "configs" / "db1_tiny.yaml"
SMALL = ("training.global_batch_size=16", "training.micro_batch_size=4")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(launching, "_num_gpus", lambda: 0)


def _hostfile(folder, text):
    path = folder / "hosts"
    path.write_text(text)
    return path


def test_hostfile(tmp_path):
    path = _hostfile(tmp_path, "# ours\nb  slots=2 # two\n\na slots=1\n")
    assert list(read_hostfile(path).items()) == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no host"),
        ("# only\n", "names no host"),
        ("a slots=1\nb\n", r"line 2: got 'b', expected `HOST slots=PROCESSES`"),
        ("a slots=two\n", "line 1: got 'a slots=two'"),
        ("a slots=0\n", "line 1: got slots=0"),
        ("a slots=1\na slots=2\n", "line 2: host 'a' is listed twice"),
        ("a slots=1 b slots=1\n", "line 1: got"),
    ],
)
def test_hostfile_that_is_wrong(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read_hostfile(_hostfile(tmp_path, text))


def test_hostfile_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match="hosts: no such hostfile"):
        read_hostfile(tmp_path / "hosts")
    with pytest.raises(ConfigError, match="is a folder"):
        read_hostfile(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not readable as a text file"):
        read_hostfile(tmp_path / "binary")


def test_local_addresses():
    assert is_local("127.0.0.1")
    assert not is_local("203.0.113.7")  # RFC 5737: documentation


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_busy_port(port, address):
    check_port(port)
    with socket.socket() as listener:
        listener.bind((address, port))
        listener.listen()
        message = rf"port {port} of this machine is in use \(process \d+, .*another port, such as"
        with pytest.raises(ConfigError, match=message):
            check_port(port)
    check_port(port)


def test_command_for_this_machine(port):
    plan = prepare(Launch(config=TINY, overrides=SMALL, port=port, processes=4))
    assert plan.processes_here == 4
    assert shown(plan.command) == (
        f"deepspeed --hostfile /dev/null --num_gpus 4 --master_port {port} --log_level error "
        f"--module db1.training {TINY} training.global_batch_size=16 training.micro_batch_size=4"
    )
    assert prepare(Launch(config=TINY, overrides=SMALL, port=port)).processes_here == 2


def test_a_process_a_gpu(port, monkeypatch):
    monkeypatch.setattr(launching, "_num_gpus", lambda: 4)
    assert prepare(Launch(config=TINY, overrides=SMALL, port=port)).processes_here == 4
    with pytest.raises(ConfigError, match="processes: got 8, expected at most the 4 GPUs"):
        prepare(Launch(config=TINY, overrides=SMALL, port=port, processes=8))


def test_command_without_ssh(port, tmp_path):
    hosts = _hostfile(tmp_path, "127.0.0.1 slots=1\n127.0.0.2 slots=3\n")
    launch = {"config": TINY, "overrides": SMALL, "port": port, "hostfile": hosts}
    plan = prepare(Launch(**launch, node_rank=1))
    assert f"--hostfile {hosts} --no_ssh --node_rank 1 --master_addr 127.0.0.1" in shown(
        plan.command
    )
    assert plan.processes_here == 3
    with socket.socket() as listener:  # the port of the first machine, which this is not
        listener.bind(("127.0.0.1", port))
        listener.listen()
        prepare(Launch(**launch, node_rank=1))
        with pytest.raises(ConfigError, match="in use"):
            prepare(Launch(**launch, node_rank=0))


def test_one_machine_in_the_hostfile_needs_no_ssh(port, tmp_path):
    hosts = _hostfile(tmp_path, "127.0.0.1 slots=2\n")
    plan = prepare(Launch(config=TINY, overrides=SMALL, port=port, hostfile=hosts))
    assert "--no_ssh --node_rank 0 --master_addr 127.0.0.1" in shown(plan.command)


@pytest.mark.parametrize(
    ("hosts", "settings", "message"),
    [
        (
            "127.0.0.1 slots=1\n127.0.0.2 slots=2\n",
            {},
            r"4 \* 3; set global_batch_size=12 or 24.*\(.*hosts names 3 processes\)",
        ),
        ("127.0.0.1 slots=1\n127.0.0.2 slots=3\n", {"node_rank": 2}, "node_rank: got 2, .* 0 to 1"),
        ("nowhere.invalid slots=1\n", {}, "host 'nowhere.invalid' has no address here"),
        (None, {"node_rank": 0}, "node_rank goes with a hostfile"),
        (None, {"master_address": "a"}, "master_address goes with a hostfile"),
        ("127.0.0.1 slots=1\n", {"processes": 2}, "processes goes with this machine alone"),
        (None, {"processes": 0}, "processes: got 0"),
        (None, {"processes": 3}, r"4 \* 3; set global_batch_size=12 or 24"),
        (None, {"port": 70000}, "port: got 70000, expected 1 to 65535"),
        (None, {"overrides": ("training.engine=torch",)}, "engine torch runs one process without"),
        (None, {"config": Path("none.yaml")}, "none.yaml: no such configuration file"),
    ],
)
def test_refuses(port, tmp_path, hosts, settings, message):
    path = None if hosts is None else _hostfile(tmp_path, hosts)
    known = {"config": TINY, "overrides": SMALL, "port": port, "hostfile": path}
    if hosts is not None and "processes" not in settings:
        known["node_rank"] = 0
    with pytest.raises(ConfigError, match=message):
        prepare(Launch(**(known | settings)))


def test_machines_without_ssh(port, tmp_path, monkeypatch):
    hosts = _hostfile(tmp_path, "127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    launch = Launch(config=TINY, overrides=SMALL, port=port, hostfile=hosts)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match="pdsh is missing.*apt-get.*--node-rank"):
        prepare(launch)
    (tmp_path / "bin" / "pdsh").write_text("#!/bin/sh\n")
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text('#!/bin/sh\ncase "$*" in *127.0.0.2*) echo "denied" >&2; exit 255 ;; esac\n')
    for tool in (tmp_path / "bin").iterdir():
        tool.chmod(0o755)
    with pytest.raises(ConfigError, match=r"to 1 of 2 machines \(127.0.0.2\); 127.0.0.2: denied"):
        prepare(launch)
    ssh.write_text("#!/bin/sh\n")
    command = shown(prepare(launch).command)
    assert f"--hostfile {hosts} --force_multi --master_port {port}" in command
