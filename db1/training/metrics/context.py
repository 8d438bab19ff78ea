"""Settings and facts for the records of a training, and where they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from db1.errors import ConfigError, check_one_of, nearest
from db1.ranges import Checked, Positive

TRACKERS = ("tensorboard", "wandb")
WANDB_MODES = ("online", "offline")


@dataclass(frozen=True, kw_only=True)
class WatchConfig(Checked):
    """Destinations of records beside metrics.jsonl; all may change when a run is resumed.

    Args:
        trackers: `tensorboard`, `wandb`, both or none.
        peak_flops: Operations a second of one process's device at best, for `mfu`; None: that of
            the GPU's data sheet, and no `mfu` on a CPU or an unknown GPU.
        wandb_project: Project in Weights & Biases.
        wandb_entity: Team or user there; None: its own default.
        wandb_mode: `online` or `offline` (kept in the run folder, `wandb sync` sends it later);
            None: what the environment variable WANDB_MODE says.
    """

    trackers: tuple[str, ...] = ("tensorboard",)
    peak_flops: Positive | None = None
    wandb_project: str = "db1"
    wandb_entity: str | None = None
    wandb_mode: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.trackers:
            if name not in TRACKERS:
                raise ConfigError(
                    f"trackers: got {name!r}, expected names out of {list(TRACKERS)}"
                    f"{nearest(name, TRACKERS)}"
                )
        if self.wandb_mode is not None:
            check_one_of("wandb_mode", self.wandb_mode, WANDB_MODES)


@dataclass(frozen=True, kw_only=True)
class SourceGroup:
    """Groups that a dataset's loss is summed up under.

    Args:
        suite: A task's suite; `text` or `pairs` for others.
        modality: `control`, `text` or `pairs`.
    """

    suite: str
    modality: str


@dataclass(frozen=True, kw_only=True)
class FlopsPerToken:
    """Floating point operations of training, see `db1.training.sizing.work.Work`.

    Args:
        token: Of each token, predicted or not.
        target: Of each predicted token on top of that.
    """

    token: float
    target: float

    def of(self, tokens: int, targets: int) -> float:
        """Operations of so many tokens, of which so many are predicted."""
        return self.token * tokens + self.target * targets


def group_by_name(source: str) -> SourceGroup:
    """Group of a dataset that only its name is known of: `suite/task`, else text."""
    if "/" in source:
        return SourceGroup(suite=source.split("/", 1)[0], modality="control")
    return SourceGroup(suite="text", modality="text")


@dataclass(frozen=True, kw_only=True)
class MetricsContext:
    """Facts that the loop needs for its records.

    Args:
        group_of: Name of a dataset -> its group.
        flops: Operations a token; None: records have no `mfu`.
    """

    group_of: Callable[[str], SourceGroup] = group_by_name
    flops: FlopsPerToken | None = None
