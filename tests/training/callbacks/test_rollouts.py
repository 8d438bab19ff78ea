"""Acting during training: when checkpoints act, what is recorded, and what goes wrong quietly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import settings

from db1.config import build
from db1.errors import ConfigError
from db1.metrics_log import MetricsWriter
from db1.training.callbacks import rollouts
from db1.training.callbacks.rollouts import RolloutConfig, RolloutMonitor

RESULTS = {
    "tasks": {
        "a/x": {"returns": [1.0, 3.0], "normalised": 0.5},
        "a/y": {"returns": [4.0], "normalised": None},
    },
    "summary": {"mean_normalised": 0.5},
    "failures": {"b/z": "DataError: broken"},
}
VALUES = {
    "return": {"a/x": 2.0, "a/y": 4.0},
    "score": {"a/x": 0.5},
    "mean_score": 0.5,
    "failures": {"b/z": "DataError: broken"},
}


@pytest.fixture
def run(tmp_path):
    """A run folder with weights after 2, 4, 6 and 8 steps."""
    for step in (2, 4, 6, 8):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(str(step))
    (tmp_path / "specs.json").write_text("{}")
    return tmp_path


def _monitor(run, monkeypatch, code, **changes):
    """A monitor whose process runs `code` in its folder in place of `db1 eval`."""
    monkeypatch.setattr(
        rollouts,
        "_command",
        lambda config, folder: [
            sys.executable,
            "-c",
            f"import os; os.chdir({str(folder)!r}); {code}",
        ],
    )
    found = []
    config = RolloutConfig(**({"every": 4} | changes))
    monitor = RolloutMonitor(config, run, {"name": "r"}, lambda *record: found.append(record))
    return monitor, found


WRITE = f"open('results.json', 'w').write({json.dumps(json.dumps(RESULTS))})"


def test_every_so_many_steps_and_at_the_end(run, monkeypatch):
    monitor, found = _monitor(run, monkeypatch, WRITE)
    for step in (2, 4, 6):
        monitor.offer(step)
        while monitor._acting:
            monitor.look()
    assert [step for step, _ in found] == [4]
    monitor.offer(6)
    monitor.offer(7, last=True)  # its checkpoint does not exist
    monitor.offer(8, last=True)
    monitor.close(finish=True)
    assert [step for step, _ in found] == [4, 8]
    step, values = found[-1]
    assert values.pop("seconds") > 0 and values == VALUES
    assert not (run / "rollouts" / "step-00000008" / "model").exists()


def test_the_newest_checkpoint_that_waits_acts(run, monkeypatch):
    code = "import time\nwhile not os.path.exists('../go'): time.sleep(0.02)\n" + WRITE
    code = f"exec({code!r})"
    monitor, found = _monitor(run, monkeypatch, code, every=2)
    for step in (2, 4, 6):
        monitor.offer(step)
    model = run / "rollouts" / "step-00000002" / "model"
    assert (model / "model.safetensors").samefile(
        run / "checkpoints" / "step-00000002" / "model.safetensors"
    )
    config = json.loads((model / "config.json").read_text())
    assert (config["step"], config["name"], config["format"]) == (2, "r", "db1-model")
    assert (model / "specs.json").is_file()
    (run / "rollouts" / "go").touch()
    monitor.close(finish=True)
    assert [step for step, _ in found] == [2, 6]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('no luck'); raise SystemExit(3)", "exit status 3: no luck"),
        ("os.kill(os.getpid(), 9)", "exit status -9: no output"),
    ],
)
def test_a_failure_is_recorded_and_the_next_acts(run, monkeypatch, code, reason):
    monitor, found = _monitor(run, monkeypatch, code)
    monitor.offer(4)
    monitor.offer(8)
    monitor.close(finish=True)
    assert [(step, values["failure"]) for step, values in found] == [(4, reason), (8, reason)]


def test_torn_results_and_missing_programs_are_no_error(run, monkeypatch):
    monitor, found = _monitor(run, monkeypatch, "open('results.json', 'w').write('{')")
    monitor.offer(4)
    monitor.close(finish=True)
    monkeypatch.setattr(rollouts, "_command", lambda *_: ["/no/such/program"])
    monitor.offer(8)
    monitor.close(finish=True)
    assert found == []


def test_a_process_that_hangs_is_ended(run, monkeypatch):
    monitor, found = _monitor(run, monkeypatch, "import time; time.sleep(600)", timeout=0.3)
    monitor.offer(4)
    monitor.close(finish=True)
    assert found[0][1]["failure"].startswith("ended after ")


def test_a_stopped_training_does_not_wait(run, monkeypatch):
    monitor, found = _monitor(run, monkeypatch, "import time; time.sleep(600)")
    monitor.offer(4)
    process = monitor._acting.process
    monitor.close(finish=False)
    assert process.returncode == -signal.SIGTERM and found == []


def test_a_resumed_run_goes_on_counting(run, monkeypatch):
    writer = MetricsWriter(run)
    writer.write("rollouts", 4, {"return": {}})
    writer.close()
    monitor, found = _monitor(run, monkeypatch, WRITE)
    for step in (4, 6, 8):
        monitor.offer(step)
    monitor.close(finish=True)
    assert [step for step, _ in found] == [8]


def test_priority_is_the_share():
    for share, nice in ((0.5, 0), (0.2, 7), (0.1, 10), (0.02, 18), (0.001, 19)):
        assert RolloutConfig(max_share=share).nice == nice


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": -1}, "every: got -1"),
        ({"episodes": 0}, "episodes: got 0"),
        ({"max_share": 0.9}, "max_share: got 0.9, expected above 0 and at most 0.5"),
        ({"timeout": 0}, "timeout: got 0"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        build(RolloutConfig, values)


def test_needs_checkpoints():
    with pytest.raises(ConfigError, match="rollouts.every: got 5 without checkpoints"):
        settings(rollouts=RolloutConfig(every=5), checkpoint_every=0)


def test_background_is_nicer_and_ends_with_its_parent(tmp_path):
    """A parent that is killed takes its background process along."""
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux tells a process when its parent ends")
    child = tmp_path / "child"
    code = f"""
import os, subprocess, sys, time
command = [sys.executable, "-m", "db1.training.callbacks.background", "5", str(os.getpid()),
           "sh", "-c",
           "nice > {child}.nice; echo $$ > {child}.tmp; mv {child}.tmp {child}; exec sleep 600"]
subprocess.Popen(command)
time.sleep(600)
"""
    root = str(Path(rollouts.__file__).parents[3])
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": root})
    try:
        _until(child.exists)
        pid = int(child.read_text())
        level = int(Path(f"{child}.nice").read_text())
        assert level == min(19, os.nice(0) + 5)
    finally:
        parent.kill()
        parent.wait()
    _until(lambda: not _lives(pid))


def _until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
