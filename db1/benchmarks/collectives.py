"""Bytes and seconds that data parallelism spends on the network, by ZeRO stage.

For P parameters of e bytes, n GPUs, a micro-batches a step, and r = (n - 1) / n. In a ring each GPU
sends (and receives) r S bytes to gather or to reduce-scatter S bytes, twice that to all-reduce them
(Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").

    stage   gradients                     weights                             a GPU sends
    0       all-reduced once a step       -                                   2 r e P
    1       all-reduced once a step       gathered once a step                3 r e P
    2       all-reduced a times           gathered once a step                (2 a + 1) r e P
    3       reduce-scattered a times      gathered a times, and the part Q    a r e (2 P + Q)
                                          a times more for the backward pass

This is what DeepSpeed 0.19 does with db1's settings, not the least that would do: stages 1 and 2
could reduce-scatter (2 r e P and (a + 1) r e P), but `use_multi_rank_bucket_allreduce` is on by
default. Stage 3 keeps what is used again within `REUSE_DISTANCE` parameters, so that
Q = max(0, P - REUSE_DISTANCE / 2): the last layers stay from the forward to the backward pass.

Example, two GPUs, 10 parameters in bf16, one micro-batch: stage 1 sends 3 * 1/2 * 20 = 30 bytes,
stage 3 sends 1/2 * 20 * 2 = 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from db1.training.sizing.footprint import REDUCE_BUCKET

REUSE_DISTANCE = 1_000_000_000
"""Parameters within which stage 3 keeps what is used again (`stage3_max_reuse_distance`)."""
PREFETCH_BUCKET = 50_000_000
"""Parameters that stage 3 gathers at once, at most (`stage3_prefetch_bucket_size`)."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Collectives of one optimizer step.

    Args:
        all_reduced: Bytes of tensors that are all-reduced.
        scattered: Bytes of tensors that are reduce-scattered.
        gathered: Bytes of tensors that are all-gathered.
        phases: Reductions and gatherings one after the other; an all-reduce is one of each.
    """

    all_reduced: int = 0
    scattered: int = 0
    gathered: int = 0
    phases: int = 0

    def sent(self, gpus: int) -> float:
        """Bytes that each of so many GPUs sends; it receives as many."""
        return (gpus - 1) / gpus * (2 * self.all_reduced + self.scattered + self.gathered)


def traffic(num_parameters: int, size: int, stage: int, accumulation: int) -> Traffic:
    """Collectives of a step, see the module's docstring.

    Args:
        num_parameters: P.
        size: Bytes a number, of weights and of gradients on their way.
        stage: ZeRO stage that runs, 0 to 3.
        accumulation: Micro-batches a step, a.
    """
    whole = num_parameters * size
    buckets = math.ceil(num_parameters / REDUCE_BUCKET)
    if stage == 0:
        return Traffic(all_reduced=whole, phases=2 * buckets)
    if stage < 3:
        times = accumulation if stage == 2 else 1
        return Traffic(all_reduced=times * whole, gathered=whole, phases=(2 * times + 1) * buckets)
    fetched = num_parameters + max(0, num_parameters - REUSE_DISTANCE // 2)
    gathers = math.ceil(fetched / PREFETCH_BUCKET)
    return Traffic(
        scattered=accumulation * whole,
        gathered=accumulation * fetched * size,
        phases=accumulation * (buckets + gathers),
    )


@dataclass(frozen=True, kw_only=True)
class Network:
    """Links between GPUs; bandwidths in one direction.

    Args:
        node: GPUs of a machine.
        within: Bytes a second of a GPU to others of its machine.
        between: Bytes a second of a GPU's network adapter.
        latency: Seconds of a round of messages.
    """

    node: int
    within: float
    between: float
    latency: float

    def bandwidth(self, gpus: int) -> float:
        """Bytes a second that each GPU of a ring sends.

        A ring enters and leaves each machine once, and there are as many rings as adapters, so that
        all adapters of a machine carry what a single GPU sends.
        """
        if gpus <= self.node:
            return self.within
        return min(self.within, self.node * self.between)

    def adapter_share(self, gpus: int) -> float:
        """Part of what a GPU sends that its own network adapter carries."""
        return 1 / self.node if gpus > self.node else 0.0

    def seconds(self, work: Traffic, gpus: int) -> float:
        """Time of all collectives: bytes by bandwidth, and ceil(log2 n) rounds for each phase.

        Both are lower bounds (Chan et al. 2007, "Collective communication: theory, practice, and
        experience").
        """
        if gpus == 1:
            return 0.0
        rounds = work.phases * math.ceil(math.log2(gpus))
        return work.sent(gpus) / self.bandwidth(gpus) + rounds * self.latency
