"""The hostfile is read by DeepSpeed, too: what db1 takes, DeepSpeed takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from db1.errors import ConfigError
from db1.training.launch.hostfile import address_of, read_hostfile

GOOD = {
    "a slots=2\n": {"a": 2},
    "# machines\n\na\tslots=2\nb   slots=08\n": {"a": 2, "b": 8},
    "me@node-1 slots=4\n": {"me@node-1": 4},
    "::1 slots=1 # this one\n": {"::1": 1},
}
BAD = {
    "a slots = 1\n": ("line 1", "without blanks"),
    "a slots= 1\n": ("line 1",),
    "ok slots=1\na:2\n": ("line 2", "HOST slots=PROCESSES"),
    "a slots=0\n": ("slots=0",),
    "a slots=-1\n": ("line 1",),
    "a slots=٣\n": ("line 1",),
    "[::1] slots=1\n": ("brackets",),
    "a slots=1\na slots=2\n": ("line 2", "twice"),
    "\n": ("names no host",),
    "a slots=1\n-oProxyCommand=touch${IFS}x;@127.0.0.1 slots=1\n": ("line 2", "-oProxyCommand"),
    "-v slots=1\n": ("line 1", "expected the name or address"),
    "a;touch/tmp/x slots=1\n": ("line 1", "expected the name or address"),
    "$(id) slots=1\n": ("line 1", "expected the name or address"),
    "me@-oX slots=1\n": ("line 1", "expected the name or address"),
}


@pytest.mark.parametrize("text", GOOD)
def test_reads_what_deepspeed_reads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    assert read_hostfile(path) == GOOD[text]
    runner = pytest.importorskip("deepspeed.launcher.runner")
    assert dict(runner._parse_hostfile(text.splitlines(keepends=True))) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_names_file_and_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_hostfile(path)
    for word in (str(path), *BAD[text]):
        assert word in str(caught.value)


def test_a_user_in_front_of_a_host_is_for_ssh() -> None:
    assert address_of("root@127.0.0.1", "hosts") == "127.0.0.1"
    with pytest.raises(ConfigError, match="master: got host '-oProxyCommand=id'"):
        address_of("-oProxyCommand=id", "master")
    with pytest.raises(ConfigError, match="no-such-machine"):
        address_of("me@no-such-machine.invalid", "hosts")
