"""When one process a core trains, and that its samples are those of one process."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from db1.data.loader import sample_numbers
from db1.errors import ConfigError
from db1.runtime import _quota_of_container, cores_for_threads, free_memory, usable_cores
from db1.training.callbacks import background
from db1.training.config import TrainingConfig
from db1.training.experiment import ExperimentConfig, load_experiment
from db1.training.launch import local

TINY = Path(__file__).parents[3] / "configs" / "db1_tiny.yaml"
GIB = 1 << 30
LARGE = (
    "training.global_batch_size=16",
    "training.micro_batch_size=16",
    "sequence.length=320",
    "model.memory_length=320",
)
"""Steps that are worth sharing."""


def _tiny(*overrides: str) -> ExperimentConfig:
    return load_experiment(TINY, (*LARGE, *overrides))


@pytest.fixture(autouse=True)
def deepspeed_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_has_deepspeed", lambda: True)


@pytest.mark.parametrize(
    ("overrides", "cores", "memory", "processes", "reason"),
    [
        ((), 2, 8 * GIB, 2, ""),
        ((), 4, 8 * GIB, 4, ""),
        ((), 5, 8 * GIB, 4, ""),  # 16 sequences are no multiple of 5
        ((), 1, 8 * GIB, 1, ""),
        ((), 2, GIB // 2, 1, "2 of them need about 0.6 GB of memory"),
        (("training.num_threads=2",), 2, 8 * GIB, 1, "num_threads=2 asks for threads"),
        (("training.engine=torch",), 2, 8 * GIB, 1, "engine torch runs one process"),
        (("training.num_steps=10", "training.warmup_steps=0"), 2, 8 * GIB, 1, "it is too short"),
        (
            ("training.global_batch_size=15", "training.micro_batch_size=15"),
            2,
            8 * GIB,
            1,
            "global_batch_size 15 is not a multiple of 2 to 2 processes",
        ),
        (("model.width=1024", "model.inner_width=128"), 2, 90 * GIB, 2, ""),
        (
            ("training.global_batch_size=4", "training.micro_batch_size=4", "sequence.length=256"),
            2,
            8 * GIB,
            1,
            "a step has only 1,024 tokens",
        ),
    ],
)
def test_choice(
    overrides: tuple[str, ...], cores: int, memory: int, processes: int, reason: str
) -> None:
    split = local.choose(_tiny(*overrides), cores=cores, memory=memory)
    assert (split.processes, split.reason) == (processes, reason)
    line = split.line()
    if processes > 1:
        assert line and "--processes 1" in line
    else:
        assert (line is None) == (reason == "")


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize(("whole", "micro"), [(16, 16), (16, 2), (48, 24), (32, 8)])
def test_the_samples_of_a_step_stay(whole: int, micro: int, processes: int) -> None:
    training = TrainingConfig(
        num_steps=9, global_batch_size=whole, micro_batch_size=micro, learning_rate=1e-3
    )
    found = local.batch_overrides(training, processes)
    assert found is not None
    changes = {key.removeprefix("training."): int(n) for key, n in (o.split("=") for o in found)}
    split = replace(training, **changes)
    split.check_processes(processes, "cpu")
    assert split.eval_batches * split.micro_batch_size == 8 * micro
    taken = [
        n
        for rank in range(processes)
        for index in range(split.accumulation(processes))
        for n in sample_numbers(
            3,
            index,
            global_batch_size=whole,
            micro_batch_size=split.micro_batch_size,
            rank=rank,
            world_size=processes,
        )
    ]
    assert sorted(taken) == list(range(3 * whole, 4 * whole))


def test_what_was_asked_for_and_cannot_be() -> None:
    with pytest.raises(ConfigError, match="--processes 3: global_batch_size 16 is not a multiple"):
        local.for_this_machine(TINY, LARGE, 3)
    with pytest.raises(ConfigError, match="engine torch runs one process"):
        local.for_this_machine(TINY, ("training.engine=torch",), 2)
    assert local.for_this_machine(TINY, (), 1) == local.Split(processes=1)
    assert local.for_this_machine(TINY, LARGE, 4).overrides == (
        "training.micro_batch_size=4",
        "training.eval_batches=32",
    )


def test_a_process_that_a_launcher_started_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    assert local.for_this_machine(TINY, (), None) == local.Split(processes=1)


def test_cores_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    for text, cores in (("max 100000", None), ("250000 100000", 2), ("50000 100000", 0)):
        file.write_text(text)
        assert _quota_of_container(file) == cores
    assert _quota_of_container(tmp_path / "none") is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores_for_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores_for_threads() == usable_cores() >= 1
    assert 1 << 20 < free_memory() < 1 << 50


PROGRAM = """
import os, pathlib, signal, sys, time
rank = int(os.environ["RANK"])
pathlib.Path(f"pid{rank}").write_text(str(os.getpid()))
assert os.environ["WORLD_SIZE"] == "2" and os.environ["OMP_NUM_THREADS"]
if sys.argv[-1] == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(60)
sys.exit({"fail": 2 * (1 - rank)}.get(sys.argv[-1], 0))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`db1.training` is a small program."""
    package = tmp_path / "db1" / "training"
    package.mkdir(parents=True)
    (tmp_path / "db1" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PROGRAM)
    (package / "callbacks").mkdir()
    shutil.copy(background.__file__, package / "callbacks" / "background.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("program")
def test_exit_status_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.run(Path("a.yaml"), ("done",), 2) == 0
    assert local.run(Path("a.yaml"), ("fail",), 2) == 2


@pytest.mark.usefixtures("program")
def test_sigterm_reaches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    wait = local._wait

    def stop_soon(running: list) -> int:
        local.time.sleep(1.0 if sys.platform == "linux" else 3.0)
        signal.raise_signal(signal.SIGTERM)
        return wait(running)

    monkeypatch.setattr(local, "_wait", stop_soon)
    assert local.run(Path("a.yaml"), ("wait",), 2) in (0, 128 + signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == previous


@pytest.mark.usefixtures("program")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends them")
def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    """SIGKILL to `db1 train`: its processes are asked to end as by a SIGTERM."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(local.__file__).parents[3])!r})\n"
        "from pathlib import Path\nfrom db1.training.launch import local\n"
        "local.run(Path('a.yaml'), ('wait',), 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    files = [tmp_path / f"pid{rank}" for rank in range(2)]
    _until(lambda: all(file.is_file() and file.read_text() for file in files))
    parent.kill()
    parent.wait()
    _until(lambda: not any(Path(f"/proc/{file.read_text()}").exists() for file in files))


def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
