"""Work shared through a folder: one process a piece, the dead hold nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from db1.failures import WriteError
from db1.processes.claims import Claims
from db1.processes.lease import Lease

HOLD = """
import sys, time
from pathlib import Path
from db1.processes.claims import Claims
with Claims(Path(sys.argv[1])).claim("suite/task") as is_mine:
    print(is_mine, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def test_a_piece_is_held_once_and_waited_for(tmp_path: Path, holder) -> None:
    claims = Claims(tmp_path)
    with claims.claim("suite/task") as is_mine, claims.claim("suite/other") as is_other:
        assert not is_mine and is_other
    looks = []

    def end_it() -> None:
        looks.append(1)
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    with claims.wait("suite/task", end_it), claims.claim("suite/task") as again:
        assert looks == [1] and not again  # held here now, by another object
    assert (tmp_path / "suite~task.lock").read_text() == ""


def test_names_do_not_lead_out(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims").claim("../x") as is_mine:
        assert is_mine
    assert [path.name for path in tmp_path.iterdir()] == ["claims"]


def test_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "x.lock").symlink_to("mine")
    with pytest.raises(WriteError, match="x.lock"):
        Lease(tmp_path / "x.lock").acquire()
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_pipe_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.lock")
    with pytest.raises(WriteError, match="x.lock.*is no file"):
        Lease(tmp_path / "x.lock").acquire()


def test_a_machine_whose_locks_are_its_own_goes_by_the_beat(tmp_path: Path) -> None:
    """Where two machines can both lock a file, what beats holds it, and what is still does not."""
    path = tmp_path / "x.lock"
    elsewhere = {"host": "another-machine", "pid": 7, "started": "then", "command": "x", "beat": 3}
    path.write_text(json.dumps(elsewhere))
    with Lease(path, beat_seconds=0.05, watch_seconds=0.2) as lease:
        assert lease.acquire() and lease.is_held
        assert json.loads(path.read_text())["host"] != "another-machine"
    assert not lease.is_held
