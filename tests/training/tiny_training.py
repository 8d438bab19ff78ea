"""A training small enough for tests: random tokens, some images, a decoder of 20,000 weights.

Also a script, for tests that need processes of their own:

    python tests/training/tiny_training.py RUN_FOLDER '{"num_steps": 4, "engine": "torch"}'
    torchrun --nproc_per_node 2 tests/training/tiny_training.py RUN_FOLDER '{}'

Beside the keys of TrainingConfig the JSON may hold `folder` (below RUN_FOLDER), `dropout`,
`evaluates`, `data`: a mapping of arguments of `RandomSamples`, and `file_size`: bytes that no file
of the process may exceed, as on a full disk. A list of such mappings runs one after the other.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from db1.config import save_yaml, to_dict
from db1.errors import DataError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.processes.ending import run_program
from db1.runtime import setup_logging
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment
from db1.training.config import TrainingConfig
from db1.training.loop import Trainer, TrainingResult

VOCABULARY = 61
TOKENS = 24

MODEL = ModelConfig(
    num_layers=2,
    num_heads=2,
    width=32,
    memory_length=16,
    num_local_positions=17,
    vision_channels=8,
    vision_groups=4,
    num_image_positions=1,
)


class RandomSamples:
    """Sample n: random tokens with a pattern to learn, of one of two sources.

    Args:
        num_samples: Length.
        seed: Of the samples.
        images: Share of samples that begin with an image, of one of two sizes.
        kill_at: Number of the sample at which the process kills itself.
        broken_at: Number of the sample that raises an error.
        seconds: Time that a sample takes.
        poisoned: Numbers of samples whose loss is not a number.
        file: Read for each sample.
        log: Gets a line with rank and number of each sample.
    """

    def __init__(
        self,
        num_samples: int,
        seed: int = 0,
        images: float = 0.0,
        kill_at: int | None = None,
        broken_at: int | None = None,
        seconds: float = 0.0,
        poisoned: tuple[int, ...] = (),
        file: str | None = None,
        log: str | None = None,
    ) -> None:
        self.num_samples, self.seed, self.images = num_samples, seed, images
        self.kill_at, self.broken_at, self.seconds = kill_at, broken_at, seconds
        self.poisoned, self.file, self.log = poisoned, file, log

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, n: int) -> TokenSegment:
        if n == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if n == self.broken_at:
            raise DataError("broken on purpose")
        time.sleep(self.seconds)
        if self.file:
            Path(self.file).read_bytes()
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.environ.get('RANK', '0')} {n}\n")
        random = np.random.default_rng([self.seed, n])
        start, stride = random.integers(VOCABULARY), random.integers(1, 4)
        ids = ((start + stride * np.arange(TOKENS + 1)) % VOCABULARY).astype(np.int32)
        mask = random.random(TOKENS + 1) < random.uniform(0.1, 0.9)  # uneven numbers of targets
        images: tuple[np.ndarray, ...] = ()
        if random.random() < self.images:
            columns = int(random.integers(1, 3))
            images = (random.integers(0, 256, (16, 16 * columns, 3)).astype(np.uint8),)
            ids[:columns], mask[:columns] = -1, False
        return TokenSegment(
            ids=ids,
            target_mask=mask,
            local_positions=np.full(TOKENS + 1, NO_LOCAL_POSITION, dtype=np.int32),
            images=images,
            source=f"source-{n % 2}",
            target_weight=float("nan") if n in self.poisoned else 1.0,
        )


def make_model(dropout: float = 0.0) -> TransformerXL:
    """A decoder whose dropout draws from torch's generator."""
    config = to_dict(MODEL) | {"residual_dropout": dropout}
    return TransformerXL(ModelConfig(**config), VOCABULARY, range(40, 50))


def settings(**changes: Any) -> TrainingConfig:
    """A training of 6 steps, 8 sequences each, in micro-batches of 2."""
    values = {
        "num_steps": 6,
        "global_batch_size": 8,
        "micro_batch_size": 2,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "engine": "torch",
        "log_every": 1,
        "checkpoint_every": 2,
        "keep_checkpoints": 2,
        "num_threads": 1,
        "eval_batches": 3,
    }
    return TrainingConfig(**(values | changes))


def make_trainer(
    run_folder: Path | str,
    dropout: float = 0.0,
    data: dict | None = None,
    evaluates: bool = True,
    **changes: Any,
) -> Trainer:
    """A trainer over `RandomSamples`; `data` goes to it, `changes` to the settings."""
    training = settings(**changes)
    config = {"name": "tiny", "training": to_dict(training), "model": {"dropout": dropout}}
    count = training.num_steps * training.global_batch_size
    sets = {"task-a": RandomSamples(9, seed=1), "task-b": RandomSamples(3, seed=2)}
    return Trainer(
        make_model=lambda: make_model(dropout),
        dataset=RandomSamples(count, **(data or {})),
        evaluation_sets=sets if evaluates else {},
        training=training,
        run_folder=Path(run_folder),
        config=config,
        run_files={"config.yaml": save_yaml(config), "specs.json": "{}"},
    )


def train(run_folder: Path | str, **changes: Any) -> TrainingResult:
    """`make_trainer(...).run()`."""
    return make_trainer(run_folder, **changes).run()


def main() -> int:
    """Trains what the command line says, one job after the other."""
    setup_logging(int(os.environ.get("RANK", "0")))
    jobs = json.loads(sys.argv[2])
    for job in jobs if isinstance(jobs, list) else [jobs]:
        file_size = job.pop("file_size", None)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        train(sys.argv[1] + job.pop("folder", ""), **job)
    return 0


if __name__ == "__main__":
    run_program(main)
