"""A simulator that dies, hangs or raises costs its own task and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from db1.store.episodes import EpisodeStore

PROGRAM = Path(__file__).with_name("faulty_suite.py")


pytestmark = pytest.mark.xdist_group("faulty")  # one process makes the outcome that all look at


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    out = tmp_path_factory.mktemp("faulty")
    run = subprocess.run(
        [sys.executable, str(PROGRAM), str(out)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return out, json.loads(run.stdout.splitlines()[-1]), run.stderr


def test_the_others_go_on(outcome):
    out, result, _ = outcome
    assert result["done"] == ["faulty/works", "classic_control/CartPole-v1"]
    assert EpisodeStore(out / "faulty/works").num_episodes == 4


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("faulty/dies", "the process ended with status 9 without a result (2 times)"),
        ("faulty/hangs", "no sign of life for 6 s (--timeout); killed (2 times)"),
        ("faulty/raises", "RuntimeError: simulator in flames"),
    ],
)
def test_each_failure_is_reported_and_what_was_stored_stays(outcome, task, words):
    out, result, errors = outcome
    assert words in result["failures"][task]
    store = EpisodeStore(out / task)
    store.verify()
    assert store.seeds.tolist() == [0, 1]
    tried_again = errors.count(f"{task}: ") - errors.count("Traceback")
    assert (tried_again >= 1) is (task != "faulty/raises")
