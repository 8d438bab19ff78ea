"""`sh scripts/evaluate_rl_1.3B.sh PORT` under dash, as the published instructions say."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port

from db1.collection import collect

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "scripts"
TAG = "db1_870task_checkpoint"
TASK = "classic_control/CartPole-v1"
DASH = shutil.which("dash")


def run_script(
    name: str, folder: Path, *arguments: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    assert DASH is not None
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    return subprocess.run(
        [DASH, str(SCRIPTS / name), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a released-layout checkpoint and demonstrations."""
    folder = tmp_path_factory.mktemp("scripts")
    make = [sys.executable, str(SCRIPTS / "make_released_checkpoint.py"), "model_checkpoints"]
    options = ["--width", "32", "--layers", "1", "--heads", "2", "--text-size", "1024"]
    subprocess.run([*make, *options, "--tag", TAG], cwd=folder, check=True, capture_output=True)
    collect(TASK, 3, folder / "rl_minimal_exp_data", reference_episodes=2)
    return folder


@pytest.mark.skipif(DASH is None, reason="needs dash: apt-get install dash")
@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("12", "13"), {}, "expected one: a free port"),
        (("port",), {}, "expected a number from 1 to 65535"),
        (("99999",), {}, "expected a number from 1 to 65535"),
        (("29002",), {"LOAD_DIR": "nowhere"}, "LOAD_DIR=nowhere: no such folder"),
        (("29002",), {"LOAD_DIR": "."}, "RL_CACHE_DIR=rl_minimal_exp_data: no such folder"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    done = run_script("evaluate_rl_1.3B.sh", tmp_path, *arguments, **variables)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(DASH is None, reason="needs dash: apt-get install dash")
@pytest.mark.parametrize("name", ["evaluate_rl_1.3B.sh", "evaluate_rl_1.2B.sh"])
def test_evaluates_the_published_layout(place: Path, name: str) -> None:
    options = {"EXTRA_OPTIONS": "--workers 1 --device cpu", "NUM_PROCESSES": "1"}
    if "1.2" in name:
        options["NUM_PROCESSES"] = "2"
    shutil.rmtree(place / "rl_eval_results", ignore_errors=True)
    done = run_script(name, place, free_port(), **options)
    assert done.returncode == 0, done.stdout + done.stderr
    out = place / "rl_eval_results" / TAG
    log = (out / "results.output").read_text()
    lines = [line for line in log.splitlines() if line.startswith("Environment ")]
    assert len(lines) == 1 and lines[0].startswith(f"Environment {TASK} test results: return: ")
    results = json.loads((out / "results.json").read_text())
    assert results["tasks"][TASK]["episodes"] == 5 and results["settings"]["seed"] == 42
    assert results["provenance"]["checkpoint"]["tag"] == TAG


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(DASH is None, reason="needs dash: apt-get install dash")
def test_a_port_in_use_is_one_clear_error(place: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = run_script("evaluate_rl_1.3B.sh", place, port, EXTRA_OPTIONS="--device cpu")
    assert done.returncode == 2
    errors = [line for line in done.stdout.splitlines() if "db1: error" in line]
    assert len(errors) == 1 and f"port {port} is in use" in errors[0]


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(DASH is None, reason="needs dash: apt-get install dash")
def test_an_unknown_tag_is_one_clear_error(place: Path) -> None:
    done = run_script("evaluate_rl_1.3B.sh", place, free_port(), TAG_NAME="other")
    assert done.returncode == 2
    assert f"no checkpoint of tag 'other', there are ['{TAG}']" in done.stdout
