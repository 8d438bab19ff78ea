"""What was frozen once (tests/golden/behaviour.py) and must stay: batches, losses, actions, scores.

An experiment that an older db1 wrote is read, trained again, gone on with and evaluated.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from db1.metrics.java_tools import find_java_tools

_PATH = Path(__file__).parent / "golden" / "behaviour.py"
_SPEC = importlib.util.spec_from_file_location("golden_behaviour", _PATH)
behaviour = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(behaviour)
FROZEN = json.loads(behaviour.FROZEN.read_text())
CLOSE = {"rel": 1e-3, "abs": 1e-6}
"""Processors and versions of torch sum in other orders."""

PACKAGES = {
    "tsp/": "elkai", "babyai/": "minigrid", "minigrid/": "minigrid", "metaworld/": "metaworld",
    "dmc/": "dm_control",
}  # fmt: skip


def _skip_without(tasks: Any) -> None:
    for prefix, package in PACKAGES.items():
        if any(task.startswith(prefix) for task in tasks):
            pytest.importorskip(package)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return behaviour.copy_fixture(tmp_path / "experiment")


def test_batches(folder: Path) -> None:
    assert behaviour.batch_hashes(folder) == FROZEN["batches"]


def test_losses_of_a_training(folder: Path) -> None:
    losses = behaviour.training_losses(folder)
    assert losses == pytest.approx(FROZEN["losses"], **CLOSE)


def test_an_older_run_goes_on(folder: Path) -> None:
    """Its checkpoint is taken up, and its records are kept."""
    metrics = folder / "runs/golden/metrics.jsonl"
    behaviour.db1(folder, "train", "experiment.yaml", "training.num_steps=122")
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    losses = {record["step"]: record["loss"] for record in records if "loss" in record}
    assert sorted(losses) == [40, 80, 120, 122]
    assert losses[122] < losses[40]


def test_greedy_actions(folder: Path) -> None:
    _skip_without(behaviour.ACTING)
    actions = behaviour.greedy_actions(folder)
    assert actions.keys() == FROZEN["actions"].keys()
    for task, taken in actions.items():
        assert taken == FROZEN["actions"][task], task


def test_results_of_an_evaluation(folder: Path) -> None:
    _skip_without(FROZEN["results"]["tasks"])
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    frozen = dict(FROZEN["results"])
    if isinstance(find_java_tools(), str):  # captions were scored on Stanford's tokens
        del frozen["captions"]
    _assert_holds(behaviour.evaluation_results(folder), frozen, "results")


def _assert_holds(found: Any, frozen: Any, where: str) -> None:
    """Fails where a frozen key is missing or has another value; further keys are fine."""
    if isinstance(frozen, dict):
        assert isinstance(found, dict) and frozen.keys() <= found.keys(), where
        for key, value in frozen.items():
            _assert_holds(found[key], value, f"{where}.{key}")
    elif isinstance(frozen, list):
        assert len(found) == len(frozen), where
        for number, value in enumerate(frozen):
            _assert_holds(found[number], value, f"{where}[{number}]")
    elif isinstance(frozen, float):
        assert found == pytest.approx(frozen, **CLOSE), where
    else:
        assert found == frozen, where
