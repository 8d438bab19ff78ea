"""scripts/generate_text.sh: its usage, and a prompt as argument and through a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/generate_text.sh"


def call(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", SCRIPT, *map(str, arguments)], input=stdin, capture_output=True, text=True,
        env={**os.environ, "PATH": path},
    )  # fmt: skip


def test_without_a_run_it_says_how_to_call_it() -> None:
    outcome = call()
    assert outcome.returncode == 2 and outcome.stderr.startswith("usage:")


@pytest.mark.slow
def test_it_writes_behind_a_prompt(experiment: Path) -> None:
    run = experiment.parent / "runs/tiny"
    options = ("--max-tokens", 4, "--seed", 1)
    given = call(run, "And the", *options)
    assert given.returncode == 0 and given.stdout.startswith("And the"), given.stderr
    assert call(run, "-", *options, stdin="And the").stdout == given.stdout
    assert call("nowhere", "And the").returncode == 2
