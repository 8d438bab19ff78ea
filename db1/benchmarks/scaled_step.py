"""One optimizer step of a size on some GPUs: memory, communication and computing.

Parameters, memory and operations are those of `db1 train --dry-run` (`db1.training.sizing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from db1.benchmarks.collectives import Network, traffic
from db1.benchmarks.sizes import LARGEST_MICRO_BATCH
from db1.tokens.vocabulary import Vocabulary
from db1.training.config import TrainingConfig
from db1.training.engines.deepspeed_engine import deepspeed_config
from db1.training.experiment import ExperimentConfig
from db1.training.sizing.footprint import (
    DTYPES,
    Activations,
    StateMemory,
    activations,
    loss_bytes,
    meta_model,
    state_memory,
)
from db1.training.sizing.work import Work, parameters_by_part, work


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """GPUs as the arithmetic sees them.

    Args:
        flops: Operations a second that a GPU does, nothing waiting for the network.
        memory: Bytes of a GPU that a training may plan with.
        network: Links between GPUs.
    """

    flops: float
    memory: float
    network: Network


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step on some GPUs, and its memory.

    Args:
        gpus: n.
        stage: ZeRO stage that runs: db1 takes 2 for 1 where a step has several micro-batches.
        micro_batch: Sequences of a GPU at once.
        accumulation: Micro-batches of a GPU.
        recomputed: Whether activations are computed twice.
        memory: Bytes of a GPU.
        sent: Bytes that a GPU sends, and as many that it receives.
        adapter: Of these, bytes over its network adapter.
        compute: Seconds.
        network: Seconds.
    """

    gpus: int
    stage: int
    micro_batch: int
    accumulation: int
    recomputed: bool
    memory: int
    sent: float
    adapter: float
    compute: float
    network: float

    @property
    def seconds(self) -> float:
        """Time of the step where nothing overlaps."""
        return self.compute + self.network

    @property
    def overlapped(self) -> float:
        """Efficiency where communication hides behind computing."""
        return self.compute / max(self.compute, self.network)

    @property
    def plain(self) -> float:
        """Efficiency where computing waits for communication."""
        return self.compute / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`."""
        return asdict(self) | {"overlapped": self.overlapped, "not_overlapped": self.plain}


class ModelSize:
    """One size with everything that the dry run counts.

    Args:
        name: As typed.
        experiment: Its configuration.
        cluster: What it would be trained on.
    """

    def __init__(self, name: str, experiment: ExperimentConfig, cluster: Cluster) -> None:
        self.name, self.experiment, self.cluster = name, experiment, cluster
        self.vocabulary_size = Vocabulary(experiment.vocabulary).size
        self.length = experiment.sequence.length
        training = experiment.training
        self.batch, self.precision = training.global_batch_size, training.precision
        self.parts = parameters_by_part(meta_model(self.experiment.model, self.vocabulary_size))
        self.num_parameters = sum(self.parts.values())
        self.work = self._work(recomputes=False)
        self._recomputed = self._work(recomputes=True).recomputed

    def _work(self, recomputes: bool) -> Work:
        model = replace(self.experiment.model, activation_checkpointing=recomputes)
        return work(model, self.parts, self.vocabulary_size, self.length, self.length)

    def state(self, stage: int, gpus: int) -> StateMemory:
        """Weights, gradients, optimizer states and buffers of a GPU."""
        return state_memory(self.num_parameters, self.precision, stage, gpus)

    @cached_property
    def _counted(self) -> tuple[Activations, Activations]:
        """One and two sequences at once."""
        one, two = (
            activations(
                self.experiment.model, self.vocabulary_size, count, self.length, self.precision
            )
            for count in (1, 2)
        )
        return one, two

    def activations(self, micro_batch: int) -> Activations:
        """Bytes of so many sequences at once; what layers keep grows by the same for each."""
        one, two = self._counted
        more = micro_batch - 1
        width, dtype = self.experiment.model.width, DTYPES[self.precision]
        return replace(
            one,
            kept=one.kept + more * (two.kept - one.kept),
            kept_checkpointed=one.kept_checkpointed
            + more * (two.kept_checkpointed - one.kept_checkpointed),
            logits=loss_bytes(micro_batch * self.length, self.vocabulary_size, width, dtype),
        )

    def sequences(self, gpus: int) -> int | None:
        """Sequences of a GPU and step; None where they cannot be shared equally."""
        return None if self.batch % gpus else self.batch // gpus

    def step(self, gpus: int, stage: int, micro_batch: int, recomputed: bool) -> Step:
        """A step of `micro_batch` sequences at once, which divide those of a GPU."""
        training = replace(self.experiment.training, micro_batch_size=micro_batch)
        accumulation = training.accumulation(gpus)
        stage = _running_stage(training, stage, gpus)
        size = DTYPES[self.precision].itemsize
        moved = traffic(self.num_parameters, size, stage, accumulation)
        network = self.cluster.network
        each = self.work.per_token + (self._recomputed if recomputed else 0.0)
        tokens = self.batch * self.length / gpus
        return Step(
            gpus=gpus,
            stage=stage,
            micro_batch=micro_batch,
            accumulation=accumulation,
            recomputed=recomputed,
            memory=self.state(stage, gpus).total + self.activations(micro_batch).total(recomputed),
            sent=moved.sent(gpus),
            adapter=moved.sent(gpus) * network.adapter_share(gpus),
            compute=tokens * each / self.cluster.flops,
            network=network.seconds(moved, gpus),
        )

    def usual_step(self, gpus: int, stage: int) -> Step | None:
        """The step with the configuration's micro-batch, or a smaller one where there is less."""
        share = self.sequences(gpus)
        if share is None:
            return None
        most = min(share, self.experiment.training.micro_batch_size)
        micro_batch = next(n for n in range(most, 0, -1) if share % n == 0)
        checkpointing = self.experiment.model.activation_checkpointing
        return self.step(gpus, stage, micro_batch, checkpointing)

    def fitting_steps(self, gpus: int) -> Iterator[Step]:
        """Steps that fit the memory, of all stages that db1 trains with."""
        share = self.sequences(gpus) or 0
        least = 1 if self.precision == "bf16" else 0  # which DeepSpeed gets wrong at stage 0
        always = self.experiment.model.activation_checkpointing
        for micro_batch in range(1, min(share, LARGEST_MICRO_BATCH) + 1):
            if share % micro_batch == 0:
                for stage in range(least, 4):
                    for recomputed in sorted({always, True}):
                        step = self.step(gpus, stage, micro_batch, recomputed)
                        if step.memory <= self.cluster.memory:
                            yield step

    def best_step(self, gpus: int) -> Step | None:
        """The fastest step that fits; of equal ones that with fewer, larger micro-batches."""
        return min(
            self.fitting_steps(gpus),
            key=lambda step: (step.seconds, step.accumulation, step.stage),
            default=None,
        )


def _running_stage(training: TrainingConfig, stage: int, gpus: int) -> int:
    """The stage that db1 asks DeepSpeed for, which is another one than configured at times."""
    if stage == 0:
        return 0
    training = replace(training, engine="deepspeed", compile=False, zero_stage=stage)
    return int(deepspeed_config(training, gpus, "cuda")["zero_optimization"]["stage"])
