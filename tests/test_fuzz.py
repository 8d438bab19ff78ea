"""A part of `scripts/fuzz.py`: nothing but answers in one line, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

from fuzzing import trial  # noqa: E402

STORMS = {"files": 300, "commands": 60, "flips": 60, "changes": 40, "writes": 30, "kills": 30}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("elkai", "h5py", "pyarrow", "minari"):
        pytest.importorskip(package, reason='needs pip install "db1[tsp,import]"')
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.slow
@pytest.mark.parametrize("storm", STORMS)
def test_a_part_of_each_storm(kept: Path, storm: str) -> None:
    command = [sys.executable, str(ROOT / "scripts/fuzz.py"), storm, "--keep", str(kept)]
    command += ["--count", str(STORMS[storm]), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=3_600)
    assert done.returncode == 0, done.stderr[-4_000:]
    (tally,) = json.loads(done.stdout)
    assert tally["trials"] >= STORMS[storm] and tally["faults"] == 0
    assert tally["seed"] == 1


def _outcome(status: int, out: str = "", err: str = "") -> trial.Outcome:
    return trial.Outcome(status=status, out=out, err=err, seconds=0.0)


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (_outcome(0), None),
        (_outcome(2, err="db1: error: x: no such file\n"), None),
        (_outcome(1, out="2 findings"), None),
        (_outcome(2), "0 error lines"),
        (_outcome(2, err="db1: error: a\ndb1: error: b\n"), "2 error lines"),
        (_outcome(1, err="Traceback (most recent call last):\n"), "traceback"),
        (_outcome(70, err="db1: error: internal error: KeyError"), "traceback"),
        (_outcome(-11), "signal 11"),
        (_outcome(trial.HANG), "hang"),
        (_outcome(3), "status 3"),
    ],
)
def test_what_counts_as_a_fault(outcome: trial.Outcome, fault: str | None) -> None:
    found = trial.fault_of(outcome)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_a_command_in_a_forked_process(tmp_path: Path) -> None:
    whole = trial.run(["--help"], tmp_path)
    assert whole.status == 0 and "Usage" in whole.out and trial.fault_of(whole) is None
    refused = trial.run(["train", "none.yaml"], tmp_path)
    assert refused.status == 2 and "none.yaml" in refused.err
    assert trial.fault_of(refused) is None
    killed = trial.run(["--help"], tmp_path, kill_after=0.0)
    assert killed.status == -9
    full = trial.run(["tasks", "--help"], tmp_path, prepare=trial.output_to("/dev/full"))
    assert full.status == 2 and "No space left on device" in full.err
    closed = trial.run(["tasks", "--help"], tmp_path, prepare=trial.output_to(None))
    assert closed.status == 0 and not closed.err
