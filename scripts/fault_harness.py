"""Kills processes of one training again and again, and compares its weights with a run left alone.

    python scripts/fault_harness.py --kills 20
    python scripts/fault_harness.py --kills 3 --launcher none --zero-stage 2 --folder /tmp/faults

Two processes train a small model on text through `deepspeed --module db1.training`. One of them,
drawn at random, is killed with SIGKILL at a random moment: at the start, between two steps, or
while a checkpoint is being saved. The same command starts the run again, until all kills are spent;
then it trains to its end. The weights must equal, to the bit, those of the same training left
alone, and so must all losses. Prints a summary as JSON; exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from db1.checkpoint.run import FOLDER, WEIGHTS_FILE, find_checkpoint, tag_of
from db1.config import save_yaml
from db1.metrics_log import METRICS_FILE, read_metrics

WORLD_SIZE = 2
STEPS_A_KILL = 12
WORDS = ("the", "a", "small", "old", "red", "cat", "dog", "river", "walks", "sees", "and", "then")
MOMENTS = ("start", "step", "save")
GIVE_UP = 300.0
"""Seconds within which a training must begin, or end."""

GRACE = 30.0
"""Seconds that a process has to end by itself after another one failed."""


@dataclass
class Summary:
    """What happened.

    Args:
        kills: Kills by moment.
        ranks: Kills by rank.
        starts: How often the command was given.
        steps: Optimizer steps of the training.
        seconds: Taken by all.
        equal_weights: The last checkpoints hold the same bytes of weights.
        equal_losses: All losses are the same numbers.
        problems: Anything that must not be.
    """

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOMENTS, 0))
    ranks: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    steps: int = 0
    seconds: float = 0.0
    equal_weights: bool = False
    equal_losses: bool = False
    problems: list[str] = field(default_factory=list)


class Launch:
    """One start of the training.

    Args:
        arguments: Of `db1.training`.
        launcher: `deepspeed`, or `none`: the processes are started directly.
        port: Where they meet.
        log: Gets what they say.
    """

    def __init__(self, arguments: list[str], launcher: str, port: int, log: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._parents: list[subprocess.Popen[bytes]] = []
        with open(log, "ab") as file:
            if launcher == "deepspeed":
                command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus"]
                command += [str(WORLD_SIZE), "--master_port", str(port), "--module", "db1.training"]
                self._start([*command, *arguments], environment, file)
                return
            for rank in range(WORLD_SIZE):
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
                place |= {"WORLD_SIZE": str(WORLD_SIZE), "MASTER_PORT": str(port)}
                command = [sys.executable, "-m", "db1.training", *arguments]
                self._start(command, environment | place, file)

    def _start(self, command: list[str], environment: dict[str, str], log: Any) -> None:
        self._parents.append(
            subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        )

    def ranks(self) -> dict[int, int]:
        """Process ids by rank, as far as they run."""
        import psutil

        found: dict[int, int] = {}
        for parent in self._parents:
            try:
                family = psutil.Process(parent.pid).children(recursive=True)
                for process in [psutil.Process(parent.pid), *family]:
                    rank = process.environ().get("RANK")
                    if rank is not None and "db1.training" in process.cmdline():
                        found.setdefault(int(rank), process.pid)
            except psutil.Error:
                continue
        return found

    @property
    def is_running(self) -> bool:
        """True until all its processes have ended."""
        return any(parent.poll() is None for parent in self._parents)

    def wait(self) -> int:
        """Waits for the end; returns the first exit status that is not 0, else 0.

        Ends what is left some time after a process failed, as launchers do: one that never met the
        others would wait for them for minutes.
        """
        deadline = time.monotonic() + GIVE_UP
        while self.is_running:
            if any(parent.poll() for parent in self._parents):
                deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() > deadline:
                if not any(parent.poll() for parent in self._parents):
                    raise subprocess.TimeoutExpired("db1.training", GIVE_UP)
                self.kill()
            time.sleep(0.05)
        return next((status for parent in self._parents if (status := parent.returncode)), 0)

    def kill(self) -> None:
        """Ends all processes."""
        for pid in [*self.ranks().values(), *(parent.pid for parent in self._parents)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class Harness:
    """The training that is killed, and the one that is not.

    Args:
        options: Of the command line.
        folder: Where both runs go.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._random = random.Random(options.seed)
        self._port = _free_port()
        self._config = folder / "experiment.yaml"
        self.summary = Summary(steps=options.steps or (options.kills + 1) * STEPS_A_KILL)
        self._write_experiment()

    def run(self) -> Summary:
        """Trains both, and compares."""
        started = time.monotonic()
        collect = [sys.executable, "-c", "from db1.cli import main; main()", "collect"]
        subprocess.run(
            [*collect, "--config", str(self._config)], check=True, stdout=subprocess.DEVNULL
        )
        self._train_to_the_end("whole")
        kills, console = range(self._options.kills), Console(stderr=True)  # stdout has the summary
        for number in track(kills, description="kills", console=console):
            self._train_to_a_kill(number)
        self._train_to_the_end("killed")
        self._compare()
        self.summary.seconds = round(time.monotonic() - started, 1)
        return self.summary

    def _train_to_the_end(self, name: str) -> None:
        launch = self._launch(name)
        status = launch.wait()
        if status:
            raise SystemExit(f"{name} ended with status {status}; see {self._folder}/{name}.log")

    def _train_to_a_kill(self, number: int) -> None:
        """Starts the training, kills one of its processes, and waits for the end of the other."""
        before = self._step()
        launch = self._launch("killed")
        moment = self._random.choices(MOMENTS, weights=(1, 5, 4))[0]
        rank = self._random.randrange(WORLD_SIZE)
        target = before + self._random.randint(1, STEPS_A_KILL - 2)
        try:
            moment = self._await(launch, moment, before, target)
            time.sleep(self._random.uniform(0.0, 0.04))
            pid = launch.ranks().get(rank)
            if pid is None:
                self._problem(f"kill {number}: rank {rank} ended before it was killed")
                return
            os.kill(pid, signal.SIGKILL)
            self.summary.kills[moment] += 1
            self.summary.ranks[str(rank)] = self.summary.ranks.get(str(rank), 0) + 1
            if launch.wait() == 0:
                self._problem(f"kill {number} ({moment}): the command ended with status 0")
        except subprocess.TimeoutExpired:
            self._problem(f"kill {number} ({moment}): the other process went on for {GIVE_UP} s")
        finally:
            launch.kill()
        find_checkpoint(self._run("killed"))  # raises when checkpoints are there, and all broken

    def _await(self, launch: Launch, moment: str, before: int, target: int) -> str:
        """Waits for the moment of the kill, or for the end; returns which moment it is.

        A save that is over before it is seen is not waited for again and again: the next step does.
        """
        deadline = time.monotonic() + GIVE_UP
        if moment == "start":
            while len(launch.ranks()) < WORLD_SIZE and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(self._random.uniform(0.0, 5.0))
            return moment
        checkpoints = self._run("killed") / FOLDER
        while launch.is_running and time.monotonic() < deadline:
            step = self._step()
            if step >= target:
                return "step"
            if moment == "save" and step > before and any(checkpoints.glob("*.partial")):
                return moment
            time.sleep(0.002)
        return moment

    def _launch(self, name: str) -> Launch:
        self.summary.starts += 1
        arguments = [str(self._config), f"name={name}"]
        log = self._folder / f"{name}.log"
        return Launch(arguments, self._options.launcher, self._port, log)

    def _compare(self) -> None:
        weights, losses = [], []
        for name in ("whole", "killed"):
            last = self._run(name) / FOLDER / tag_of(self.summary.steps)
            weights.append(hashlib.sha256((last / WEIGHTS_FILE).read_bytes()).hexdigest())
            records = read_metrics(self._run(name), "train")
            losses.append([(record["step"], record["loss"]) for record in records])
        self.summary.equal_weights = weights[0] == weights[1]
        self.summary.equal_losses = losses[0] == losses[1]

    def _step(self) -> int:
        """Steps that the killed run has recorded."""
        path = self._run("killed") / METRICS_FILE
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return 0
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except (ValueError, KeyError):
                continue  # torn by a kill
        return 0

    def _run(self, name: str) -> Path:
        return self._folder / "runs" / name

    def _problem(self, text: str) -> None:
        self.summary.problems.append(text)

    def _write_experiment(self) -> None:
        generator = random.Random(0)
        lines = [" ".join(generator.choices(WORDS, k=40)) for _ in range(400)]
        text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
        corpus = self._folder / "corpus.jsonl"
        corpus.write_text(text, encoding="utf-8")
        content = {
            "name": "whole",
            "runs": str(self._folder / "runs"),
            "vocabulary": {"text_size": 300},
            "sequence": {"length": 64},
            "data": {
                "root": str(self._folder / "data"),
                "text": {"words": {"weight": 1.0, "source": str(corpus)}},
            },
            "model": {
                "num_layers": 2,
                "num_heads": 2,
                "width": 32,
                "memory_length": 64,
                "residual_dropout": 0.1,
                "stochastic_depth": 0.1,
            },
            "training": {
                "num_steps": self.summary.steps,
                "global_batch_size": 8,
                "micro_batch_size": 2,
                "learning_rate": 3e-3,
                "warmup_steps": 5,
                "zero_stage": self._options.zero_stage,
                "log_every": 1,
                "checkpoint_every": 3,
                "num_threads": 1,
                "hang_timeout": 120.0,
            },
        }
        self._config.write_text(save_yaml(content), encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> int:
    """Runs the harness; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="processes to kill (default 20)")
    parser.add_argument("--steps", type=int, default=0, help="optimizer steps; 0: by the kills")
    parser.add_argument("--zero-stage", type=int, default=1, choices=(0, 1, 2, 3))
    parser.add_argument("--launcher", default="deepspeed", choices=("deepspeed", "none"))
    parser.add_argument("--seed", type=int, default=0, help="of ranks and moments")
    parser.add_argument("--folder", type=Path, help="an empty folder to keep; default: temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        summary = Harness(options, folder.resolve()).run()
    sys.stdout.write(json.dumps(asdict(summary), indent=1) + "\n")
    good = summary.equal_weights and summary.equal_losses and not summary.problems
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
