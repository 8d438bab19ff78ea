"""The same command on several machines that share a folder: divided work, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from two_nodes import ADDRESSES, TwoNodes, missing

YAML = """
name: shared
vocabulary: {text_size: 300}
sequence: {length: 40, instruction: true, max_instruction: 16}
data:
  root: DATA
  tasks:
    classic_control/CartPole-v1: {episodes: 12, max_steps: 40}
    classic_control/Pendulum-v1: {episodes: 12, max_steps: 40}
    classic_control/Acrobot-v1: {episodes: 12, max_steps: 40}
    classic_control/MountainCar-v0: {episodes: 12, max_steps: 40}
model: {num_layers: 1, num_heads: 2, width: 16, memory_length: 40}
training: {num_steps: 2, global_batch_size: 2, micro_batch_size: 2, learning_rate: 1.0e-3,
           engine: torch}
"""
TASKS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0")
Command = Callable[[str, Sequence[str]], list[str]]


def _start(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _db1(*words: object) -> list[str]:
    return [sys.executable, "-m", "db1", *map(str, words)]


def _collect(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.yaml"
    path.write_text(YAML.replace("DATA", str(folder / name)))
    return _db1("collect", "--config", path, "--reference-episodes", 2, "--processes", 1)


def _arrays(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.bin"))}


def _divided(folder: Path, on: Command) -> None:
    alone = _start(_collect(folder, "alone"))
    assert alone.wait(120) == 0, alone.communicate()[0]
    command = _collect(folder, "both")
    lost = _start(on("node-b", command))
    claims = folder / "both/.claims"
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in claims.glob("*.lock")):
        assert time.monotonic() < end and lost.poll() is None, lost.communicate()[0]
        time.sleep(0.02)
    first, second = _start(on("node-a", command)), _start(on("node-b", command))
    os.killpg(lost.pid, signal.SIGKILL)  # a machine is lost while it has a task
    for process in (first, second):
        out = process.communicate(timeout=120)[0]
        assert process.returncode == 0, out
    assert _arrays(folder / "both") == _arrays(folder / "alone") != {}
    assert not any(path.stat().st_size for path in claims.glob("*.lock"))
    for task in TASKS:
        parts = [
            folder / name / f"classic_control/{task}/references.json" for name in ("alone", "both")
        ]
        alone_, both = (json.loads(part.read_text()) for part in parts)
        assert alone_["random"]["mean"] == both["random"]["mean"]


def test_two_commands_divide_a_collection(tmp_path: Path) -> None:
    _divided(tmp_path, lambda node, words: list(words))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_machines_share_collecting_measuring_and_evaluating(
    tmp_path: Path, experiment: Path
) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    run = experiment.parent / "runs/tiny"
    evaluate = ("eval", run, "--episodes", 3, "--max-steps", 8, "--workers", 0, "--no-text")
    tasks = [f"classic_control/{task}" for task in TASKS]
    (tmp_path / "nodes").mkdir()
    with TwoNodes(tmp_path / "nodes") as nodes:
        _divided(tmp_path, nodes.command)
        for words, result in (
            (("tasks", "measure", *tasks, "--episodes", 3), "scores/classic_control.json"),
            ((*evaluate,), "results/results.json"),
        ):
            found = []
            for where in ("alone", "both"):
                out = tmp_path / where / result
                command = _db1(*words, "--out", out.parent)
                machines = [*ADDRESSES][: 1 if where == "alone" else 2]
                started = [_start(nodes.command(node, command)) for node in machines]
                for process in started:
                    said = process.communicate(timeout=240)[0]
                    assert process.returncode == 0, said
                found.append(_timeless(json.loads(out.read_text())))
            assert found[0] == found[1]


def _timeless(content: Any) -> Any:
    """Results without times, places and checksums."""
    if isinstance(content, dict):
        left_out = {"seconds", "date", "checksum", "provenance"}
        return {key: _timeless(value) for key, value in content.items() if key not in left_out}
    return [_timeless(item) for item in content] if isinstance(content, list) else content
