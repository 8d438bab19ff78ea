"""Every program in examples/ is short and runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
sys.path.append(str(Path(__file__).parent / "api"))  # for toy

CARTPOLE = "classic_control/CartPole-v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toy import make_run

    return make_run(tmp_path_factory.mktemp("examples") / "toy")


def run_example(name: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_they_are_eight_and_short() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"{n:02d}" for n in range(1, 9)]
    assert all(len(path.read_text().splitlines()) < 40 for path in EXAMPLES)


def test_act(run: Path) -> None:
    lines = run_example("01_act.py", run, CARTPOLE).splitlines()
    assert len(lines) == 3 and all("return" in line for line in lines)


def test_evaluate(run: Path) -> None:
    assert f"{CARTPOLE}: return" in run_example("02_evaluate.py", run, CARTPOLE)


def test_collect_and_train(tmp_path: Path) -> None:
    said = run_example("03_collect_and_train.py", tmp_path, 3)
    assert f"{CARTPOLE}: 20 episodes, return 100.0" in said and "returns: [" in said


def test_fine_tune(run: Path, tmp_path: Path) -> None:
    said = run_example("04_fine_tune.py", run, CARTPOLE, tmp_path, 2)
    assert "before: normalised" in said and "after: normalised" in said


def test_own_environment(tmp_path: Path) -> None:
    said = run_example("05_own_environment.py", tmp_path)
    assert said.startswith("20 episodes") and "random" in said
    assert (tmp_path / "gym" / "Lamp-v0" / "references.json").is_file()


def test_own_data(tmp_path: Path) -> None:
    assert "robot/push: 10 episodes" in run_example("06_own_data.py", tmp_path)


def test_captions(run: Path) -> None:
    lines = run_example("07_captions.py", run).splitlines()
    assert any(line.startswith("caption:") for line in lines)
    assert lines[-1].split(": ")[1] in ("red", "green", "blue")


def test_serve(run: Path) -> None:
    for package in ("starlette", "uvicorn", "websockets", "prometheus_client"):
        pytest.importorskip(package, reason='needs pip install "db1[serve]"')
    lines = run_example("08_serve.py", run, CARTPOLE).splitlines()
    assert lines[0] == "server: ok" and len(lines) == 6
