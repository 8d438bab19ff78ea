"""Trackers that show a run's records: TensorBoard files and Weights & Biases.

Both get the same scalars, in groups that their pages show as sections:

    train/loss, train/learning_rate ...          speed/tokens_per_second, speed/mfu ...
    train_loss_by_suite/metaworld                evaluation_loss_by_task/metaworld/reach-v3
    rollouts_score/metaworld/reach-v3            rollouts/mean_score
"""

from __future__ import annotations

import importlib.util
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from db1.errors import ConfigError, MissingExtra
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.training.metrics.context import WatchConfig

TENSORBOARD_FOLDER = "tensorboard"
WANDB_FOLDER = "wandb"
WANDB_ID_FILE = "run-id"
SPEED = frozenset(
    {
        "tokens_per_second",
        "step_seconds",
        "data_wait_seconds",
        "peak_memory_bytes",
        "flops_per_second",
        "mfu",
    }
)
"""Values of the record `train` that tell of the machine, not of the model."""


class Tracker(ABC):
    """Shows records; see `db1.metrics_log.MetricsWriter`."""

    @abstractmethod
    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Shows one record; values are numbers, None, or mappings of such."""

    @abstractmethod
    def close(self) -> None:
        """Writes out what is left."""


def scalars(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by tag, see the module's docstring; None and text are left out."""
    found = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{kind}_{name}/{sub}": number for sub, number in value.items()}
        else:
            found[f"speed/{name}" if name in SPEED else f"{kind}/{name}"] = value
    return {tag: value for tag, value in found.items() if isinstance(value, int | float)}


class TensorBoardTracker(Tracker):
    """Event files in the run folder.

    Args:
        run_folder: The run.
        after_step: Step that the run resumes from; what was shown after it is hidden.
    """

    def __init__(self, run_folder: Path, after_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run_folder / TENSORBOARD_FOLDER
        _wait_for_a_later_second(folder)
        self._board = SummaryWriter(
            str(folder),
            purge_step=after_step + 1 if after_step else None,
        )

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        for tag, number in scalars(kind, values).items():
            self._board.add_scalar(tag, number, step)

    def close(self) -> None:
        self._board.close()


def _wait_for_a_later_second(folder: Path) -> None:
    """Wait, at most a second, until a new event file sorts after those in `folder`.

    TensorBoard reads event files in the order of their names,
    `events.out.tfevents.<second>.<host>.<process>.<count>`: of two files of one second and process
    the tenth would come before the ninth.
    """
    while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)


class WandbTracker(Tracker):
    """A run of Weights & Biases; a resumed training goes on in the same one.

    Args:
        run_folder: The run; its last part is the name shown.
        config: What the run is listed with.
        watch: Project and mode.

    Raises:
        MissingExtra: Without the package.
        ConfigError: When the service refuses or cannot be reached.
    """

    def __init__(self, run_folder: Path, config: Mapping[str, Any], watch: WatchConfig) -> None:
        check_trackers(watch)
        import wandb

        folder = run_folder / WANDB_FOLDER
        make_folder(folder)
        try:
            self._run = wandb.init(
                id=_wandb_id(folder),
                resume="allow",
                dir=str(run_folder),
                name=run_folder.name,
                project=watch.wandb_project,
                entity=watch.wandb_entity,
                mode=watch.wandb_mode,
                config=dict(config),
                settings=wandb.Settings(quiet=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"trackers: wandb does not start ({' '.join(str(error).split())}); run `wandb "
                "login`, or set training.watch.wandb_mode=offline"
            ) from error
        self._kinds: set[str] = set()

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        numbers = scalars(kind, values)
        for group in {tag.split("/", 1)[0] for tag in numbers} - self._kinds:
            # Each group has its own axis: rollouts tell of earlier steps than the losses beside.
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")
            self._kinds.add(group)
        steps = {f"{tag.split('/', 1)[0]}/step": step for tag in numbers}
        self._run.log(numbers | steps)

    def close(self) -> None:
        self._run.finish()


def _wandb_id(folder: Path) -> str:
    path = folder / WANDB_ID_FILE
    if not path.is_file():
        atomic_write_text(path, secrets.token_hex(8))
    return path.read_text(encoding="utf-8").strip()


def check_trackers(watch: WatchConfig) -> None:
    """Raises MissingExtra when a tracker's package is not installed."""
    if "wandb" in watch.trackers and importlib.util.find_spec("wandb") is None:
        raise MissingExtra("wandb", "wandb", "the tracker wandb")


def make_trackers(
    watch: WatchConfig, run_folder: Path, config: Mapping[str, Any], after_step: int
) -> Sequence[Tracker]:
    """The trackers of a run.

    Args:
        watch: Names them.
        run_folder: The run.
        config: The resolved experiment.
        after_step: Step that the run resumes from.
    """
    makers = {
        "tensorboard": lambda: TensorBoardTracker(run_folder, after_step),
        "wandb": lambda: WandbTracker(run_folder, config, watch),
    }
    return [makers[name]() for name in dict.fromkeys(watch.trackers)]
