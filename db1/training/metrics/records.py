"""The records of a run: sums over steps and processes -> what metrics.jsonl and trackers hold.

    train        every `log_every` steps: loss and losses by source, suite and modality;
                 gradient norm (last and highest), learning rate, tokens a second, mfu, waiting
                 for data, memory
    evaluation   every `eval_every` steps: the same losses on held-out samples, by task
    rollouts     `db1.training.callbacks.rollouts`: returns and scores of acting

Model FLOPs utilisation: operations of the model (of attention only what a query sees; nothing that
is computed twice; without the vision encoder) divided by what the devices could do in that time.
Source: Chowdhery et al. 2022 (PaLM), appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from db1.training.metrics.context import FlopsPerToken, SourceGroup
from db1.training.metrics.tally import Tally


@dataclass
class Window:
    """Sums of one process between two records; picklable, to be gathered.

    Args:
        tally: Losses, targets and tokens.
        steps: Optimizer steps.
        seconds: Taken by them.
        wait_seconds: Of these, waiting for data.
        norms: Gradient norm of each step.
    """

    tally: Tally = field(default_factory=Tally)
    steps: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    norms: list[float] = field(default_factory=list)

    def add(self, tally: Tally, norm: float, seconds: float, wait_seconds: float) -> None:
        """Enters one optimizer step."""
        self.tally = Tally.merged([self.tally, tally])
        self.steps += 1
        self.seconds += seconds
        self.wait_seconds += wait_seconds
        self.norms.append(norm)


def grouped_losses(tally: Tally, key: Callable[[str], str]) -> dict[str, float]:
    """Mean loss of all targets of each group of sources, sorted by name.

    Args:
        tally: Losses by source.
        key: Source -> name of its group.
    """
    losses: dict[str, float] = {}
    targets: dict[str, int] = {}
    for source, loss in tally.losses.items():
        name = key(source)
        losses[name] = losses.get(name, 0.0) + loss
        targets[name] = targets.get(name, 0) + tally.targets[source]
    return {name: losses[name] / targets[name] for name in sorted(losses) if targets[name]}


def loss_values(tally: Tally, group_of: Callable[[str], SourceGroup], each: str) -> dict[str, Any]:
    """The losses of a record.

    Args:
        tally: Of all processes.
        group_of: Source -> its group.
        each: Name of the losses of single sources.
    """
    return {
        "loss": tally.loss,
        "loss_by_modality": grouped_losses(tally, lambda name: group_of(name).modality),
        "loss_by_suite": grouped_losses(tally, lambda name: group_of(name).suite),
        each: tally.by_source,
    }


def train_record(
    windows: Iterable[Window],
    *,
    group_of: Callable[[str], SourceGroup],
    learning_rate: float,
    peak_memory: int,
    flops: FlopsPerToken | None = None,
    peak_flops: float | None = None,
) -> dict[str, Any]:
    """The record `train`.

    Args:
        windows: Of all processes, the first one's first: its clock counts.
        group_of: Source -> its group.
        learning_rate: Of the last step.
        peak_memory: Bytes, of the process that took most.
        flops: Operations a token.
        peak_flops: Operations a second of one process at best.
    """
    windows = list(windows)
    first, tally = windows[0], Tally.merged(window.tally for window in windows)
    norms = [norm for norm in first.norms if math.isfinite(norm)]
    record = loss_values(tally, group_of, "loss_by_source") | {
        "gradient_norm": first.norms[-1],
        "gradient_norm_max": max(norms, default=math.nan),
        "learning_rate": learning_rate,
        "tokens": tally.tokens,
        "tokens_per_second": tally.tokens / first.seconds,
        "step_seconds": first.seconds / first.steps,
        "data_wait_seconds": max(window.wait_seconds for window in windows) / first.steps,
        "peak_memory_bytes": peak_memory,
    }
    if flops is not None:
        done = flops.of(tally.tokens, sum(tally.targets.values())) / first.seconds
        record["flops_per_second"] = done
        if peak_flops is not None:
            record["mfu"] = done / (peak_flops * len(windows))
    return record


def evaluation_record(
    tallies: Mapping[str, Tally], group_of: Callable[[str], SourceGroup]
) -> dict[str, Any]:
    """The record `evaluation`.

    Args:
        tallies: Of each fixed set, over all processes, by task.
        group_of: Task -> its group.
    """
    by_task = Tally()
    for name, tally in tallies.items():
        by_task.losses[name] = sum(tally.losses.values())
        by_task.targets[name] = sum(tally.targets.values())
        by_task.tokens += tally.tokens
    return loss_values(by_task, group_of, "loss_by_task")
