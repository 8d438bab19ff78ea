"""Lets checkpoints of a running training act: returns and scores while it trains.

The trainer only starts a process and looks after it between steps: `db1 eval` on the newest
checkpoint, one at a time, at a priority that leaves the trainer at least 1 - max_share of a core
that both want. A later checkpoint replaces one that still waits. Whatever goes wrong there is a
warning in the log and a record with the reason; the training goes on.

    <run>/rollouts/step-00000500/model/         weights (a hard link) and what acting needs
                                 results.json   as `db1 eval` writes it
                                 log.txt        what the process said

The seeds are evaluation seeds far from those that `db1 eval` begins with, so that a final
evaluation is not what was looked at during training.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from db1.checkpoint.bundle import (
    FORMAT,
    JSON_CONFIG_FILE,
    SPECS_FILE,
    TOKENIZER_FILE,
    VERSION,
)
from db1.checkpoint.run import FOLDER, WEIGHTS_FILE, tag_of
from db1.files import atomic_write_text
from db1.json_shape import parse_json_file
from db1.metrics_log import METRICS_FILE, read_metrics
from db1.ranges import Checked, Count, Natural, Positive, Range
from db1.runtime import launch_environment

logger = logging.getLogger(__name__)

ROLLOUTS_FOLDER = "rollouts"
EVENT = "rollouts"
"""Kind of the records in metrics.jsonl."""
FIRST_EPISODE = 900_000
_NICE_STEP = 1.25  # Linux: a nice level more means so much less of a contended core
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked):
    """Acting during training; all of it may change when a run is resumed.

    Args:
        every: Steps between two checkpoints that act; 0: none does. The newest checkpoint is
            taken, so that `checkpoint_every` is the finest grain.
        tasks: Task ids; empty: all that the run learns.
        episodes: Episodes of each task.
        max_share: Of a busy core, the most that acting takes from the trainer (its nice level).
        threads: Of acting, and processes for its environments.
        device: torch device of acting; `cpu` leaves the GPU to the trainer.
        timeout: Seconds after which a process is ended, and given up.
    """

    every: Natural = 0
    tasks: tuple[str, ...] = ()
    episodes: Count = 5
    max_share: Annotated[float, Range(above=0, most=0.5)] = 0.1
    threads: Count = 1
    device: str = "cpu"
    timeout: Positive = 3600.0

    @property
    def nice(self) -> int:
        """Nice level at which a busy core gives `max_share` to acting."""
        wanted = math.log((1 - self.max_share) / self.max_share) / math.log(_NICE_STEP)
        return min(19, math.ceil(wanted - 1e-9))


@dataclass
class _Acting:
    """A process at work."""

    step: int
    folder: Path
    process: subprocess.Popen[bytes]
    started: float


class RolloutMonitor:
    """Starts and collects rollouts; lives in the first process only.

    Args:
        config: Which, and how often.
        run_folder: The run.
        run_config: Its resolved configuration.
        record: Gets step and values of each result.
    """

    def __init__(
        self,
        config: RolloutConfig,
        run_folder: Path,
        run_config: Mapping[str, Any],
        record: Callable[[int, Mapping[str, Any]], None],
    ) -> None:
        self._config = config
        self._run_folder = run_folder
        self._run_config = run_config
        self._record = record
        self._acting: _Acting | None = None
        self._waiting: int | None = None
        self._last = 0
        if config.every and (run_folder / METRICS_FILE).is_file():
            steps = [record["step"] for record in read_metrics(run_folder, EVENT)]
            self._last = max(steps, default=0)

    def offer(self, step: int, *, last: bool = False) -> None:
        """Tells of a checkpoint; it acts when its turn has come.

        Args:
            step: Optimizer steps done.
            last: It ends the training and acts in any case.
        """
        if self._config.every and step > self._last:
            if last or step - self._last >= self._config.every:
                self._waiting = self._last = step
                self.look()

    def look(self) -> None:
        """Collects what has ended and starts what waits; takes no time otherwise."""
        try:
            self._collect()
            if self._acting is None and self._waiting is not None:
                self._start()
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("rollouts: %s: %s", type(error).__name__, error)
            self._acting = None

    def close(self, *, finish: bool) -> None:
        """Ends.

        Args:
            finish: Wait for what acts or waits to act; otherwise it is dropped.
        """
        if finish and (self._acting or self._waiting):
            logger.info("waiting for the rollouts of the last checkpoint")
            while self._acting or self._waiting:
                self.look()
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        if self._acting:
            _end(self._acting.process)
            shutil.rmtree(self._acting.folder / "model", ignore_errors=True)
        self._acting = self._waiting = None

    def _start(self) -> None:
        step, self._waiting = self._waiting, None
        assert step is not None
        checkpoint = self._run_folder / FOLDER / tag_of(step)
        if not (checkpoint / WEIGHTS_FILE).is_file():
            return
        folder = self._run_folder / ROLLOUTS_FOLDER / tag_of(step)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        _link_model(checkpoint, self._run_folder, folder / "model", step, self._run_config)
        with open(folder / "log.txt", "wb") as log:
            process = subprocess.Popen(
                _command(self._config, folder),
                env=launch_environment() | {"OMP_NUM_THREADS": str(self._config.threads)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._acting = _Acting(step, folder, process, time.monotonic())

    def _collect(self) -> None:
        acting = self._acting
        if acting is None:
            return
        seconds = time.monotonic() - acting.started
        status = acting.process.poll()
        if status is None and seconds <= self._config.timeout:
            return
        if status is None:
            _end(acting.process)
        self._acting = None
        shutil.rmtree(acting.folder / "model", ignore_errors=True)
        late = f"ended after {seconds:.0f} s (training.rollouts.timeout)"
        values = _values(acting.folder, late if status is None else f"exit status {status}")
        self._record(acting.step, values | {"seconds": seconds})
        _tell(acting.step, values)


def _command(config: RolloutConfig, folder: Path) -> list[str]:
    """`db1 eval`, the public command: nothing of acting is imported here."""
    module = "db1.training.callbacks.background"
    background = (sys.executable, "-m", module, config.nice, os.getpid())
    tasks = [word for task in config.tasks for word in ("--task", task)]
    options = ("--episodes", config.episodes, "--first-episode", FIRST_EPISODE)
    left_out = ("--no-text", "--no-pairs")  # held-out losses tell of these
    allowed = ("missing-reference", "version-mismatch", "missing-prompt")
    options += (*left_out, *(f"--allow-{what}" for what in allowed))
    machine = ("--device", config.device, "--threads", config.threads, "--workers", config.threads)
    place = ("--out", folder, "--overwrite", "--log", "--lanes", 1, *machine)
    verb = (sys.executable, "-m", "db1", "eval", folder / "model")
    return [str(word) for word in (*background, *verb, *options, *tasks, *place)]


def _link_model(
    checkpoint: Path, run_folder: Path, folder: Path, step: int, config: Mapping[str, Any]
) -> None:
    """A safetensors folder of the checkpoint, which may be removed meanwhile."""
    content = {"format": FORMAT, "version": VERSION, "step": step, **config}
    atomic_write_text(folder / JSON_CONFIG_FILE, json.dumps(content))
    sources: Sequence[Path] = (
        checkpoint / WEIGHTS_FILE,
        run_folder / SPECS_FILE,
        run_folder / TOKENIZER_FILE,
    )
    for source in sources:
        if source.is_file():
            try:
                os.link(source, folder / source.name)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, folder / source.name)


def _values(folder: Path, status: str) -> dict[str, Any]:
    """Findings of an evaluation: returns and scores by task, and what failed."""
    path = folder / "results.json"
    if not path.is_file():
        return {"failure": f"{status}: {_last_line(folder / 'log.txt')}"}
    results = parse_json_file(path)
    tasks = results["tasks"]
    found = {
        "return": {task: sum(e["returns"]) / len(e["returns"]) for task, e in tasks.items()},
        "score": {t: e["normalised"] for t, e in tasks.items() if e["normalised"] is not None},
        "mean_score": results["summary"].get("mean_normalised"),
    }
    return found | ({"failures": results["failures"]} if results.get("failures") else {})


def _tell(step: int, values: Mapping[str, Any]) -> None:
    if "failure" in values:
        logger.warning("rollouts of step %d failed: %s", step, values["failure"])
        return
    for task, reason in values.get("failures", {}).items():
        logger.warning("rollouts of step %d: %s failed: %s", step, task, reason)
    mean = values["mean_score"]
    score = "no scores" if mean is None else f"mean score {mean:.3f}"
    logger.info("rollouts of step %d  %s over %d task(s)", step, score, len(values["score"]))


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
