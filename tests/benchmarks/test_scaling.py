"""`db1 bench scaling`: small cases by hand, limits, and agreement with the dry run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from db1.benchmarks.cases import image_case, text_case
from db1.benchmarks.collectives import PREFETCH_BUCKET, REUSE_DISTANCE, Network, Traffic, traffic
from db1.benchmarks.corpora import TaskSize
from db1.benchmarks.delivery import Delivery, Storage, need, stored_sample
from db1.benchmarks.scaled_step import Cluster, ModelSize, Step
from db1.benchmarks.scaling import (
    BATCH,
    MEMORY,
    NETWORK,
    SHAPES,
    ScalingBenchmark,
    experiment_of,
    limit,
    limits,
)
from db1.errors import ConfigError
from db1.training.experiment import load_experiment
from db1.training.sizing.footprint import state_memory
from db1.training.sizing.plan import plan

ROOT = Path(__file__).parents[2]
CONFIGS = ("79m", "364m", "1.2b")
H100 = ScalingBenchmark().cluster


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def tiny() -> ModelSize:
    """A small model in bf16 with the batch of the large ones."""
    experiment = load_experiment(
        ROOT / "configs/db1_79m.yaml",
        ["model.num_layers=2", "model.num_heads=2", "model.width=64", "model.inner_width=128",
         "model.vision_channels=32", "sequence.length=64", "training.micro_batch_size=8"],
    )  # fmt: skip
    return ModelSize("tiny", experiment, H100)


# Communication


def test_ten_parameters_on_two_gpus_by_hand() -> None:
    """2 bytes a number, so 20 bytes; a ring of two passes half of a tensor, or all when reducing
    and gathering."""
    expected = {0: 20, 1: 30, 2: 30, 3: 20}  # stage 3 keeps what it gathered for the backward pass
    assert {stage: traffic(10, 2, stage, 1).sent(2) for stage in range(4)} == expected
    twice = {0: 20, 1: 30, 2: 50, 3: 40}  # two micro-batches
    assert {stage: traffic(10, 2, stage, 2).sent(2) for stage in range(4)} == twice
    state = state_memory(10, "bf16", 3, 2)
    assert (state.parameters, state.gradients, state.optimizer) == (10, 10, 60)


def test_a_large_model_is_gathered_again_for_the_backward_pass() -> None:
    count = 3 * REUSE_DISTANCE
    work = traffic(count, 2, 3, 1)
    assert work.scattered == 2 * count
    assert work.gathered == 2 * (count + count - REUSE_DISTANCE // 2)
    assert work.phases == 6 + math.ceil((2 * count - REUSE_DISTANCE // 2) / PREFETCH_BUCKET)


@pytest.mark.parametrize("stage", range(4))
def test_one_gpu_sends_nothing_and_more_send_more(stage: int) -> None:
    work = traffic(1_000_000, 2, stage, 4)
    sent = [work.sent(gpus) for gpus in (1, 2, 8, 64, 1_024)]
    assert sent[0] == 0 and sent == sorted(sent)
    whole = 2 * work.all_reduced + work.scattered + work.gathered
    assert sent[-1] == pytest.approx(whole, rel=1e-3)  # (n - 1) / n goes to 1
    assert H100.network.seconds(work, 1) == 0


def test_seconds_by_hand() -> None:
    network = Network(node=8, within=400.0, between=10.0, latency=0.5)
    work = Traffic(all_reduced=800, gathered=400, phases=3)  # 2,000 bytes in all
    assert network.seconds(work, 2) == pytest.approx(1_000 / 400 + 3 * 1 * 0.5)
    assert network.seconds(work, 8) == pytest.approx(1_750 / 400 + 3 * 3 * 0.5)
    # 16 GPUs: a machine's 8 adapters carry together what one GPU sends
    assert network.seconds(work, 16) == pytest.approx(1_875 / 80 + 3 * 4 * 0.5)
    assert network.adapter_share(8) == 0 and network.adapter_share(16) == 1 / 8
    assert replace(network, between=100.0).bandwidth(16) == 400  # no faster than within


@pytest.mark.deepspeed
def test_buckets_are_deepspeeds_defaults() -> None:
    pytest.importorskip("deepspeed", reason="needs pip install deepspeed")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = DeepSpeedZeroConfig()
    assert config.max_reuse_distance == REUSE_DISTANCE
    assert config.prefetch_bucket_size == PREFETCH_BUCKET
    assert config.use_multi_rank_bucket_allreduce and config.reduce_scatter


# Agreement with the dry run


@pytest.mark.parametrize("name", CONFIGS)
def test_figures_are_those_of_the_dry_run(name: str) -> None:
    experiment = experiment_of(name, ScalingBenchmark())
    size, gpus = ModelSize(name, experiment, H100), 8
    planned = plan(experiment, gpus)
    assert size.num_parameters == planned.num_parameters
    for stage in range(4):
        assert size.state(stage, gpus) == planned.state[f"ZeRO {stage}"]
    assert size.activations(experiment.training.micro_batch_size) == planned.activations
    assert size.work.per_token == planned.work.per_token
    step = size.usual_step(gpus, 3)
    assert step is not None
    assert (step.micro_batch, step.accumulation) == (
        experiment.training.micro_batch_size,
        planned.accumulation,
    )
    assert step.memory == planned.needed("ZeRO 3", False)
    tokens = planned.tokens_per_step
    assert step.compute == pytest.approx(tokens * planned.work.per_token / (8 * 0.45 * 989e12))


@pytest.mark.parametrize(("name", "billions"), [("3b", 3.0), ("10b", 10.0)])
def test_sizes_without_a_configuration(name: str, billions: float) -> None:
    experiment = experiment_of(name, ScalingBenchmark())
    assert {key: getattr(experiment.model, key) for key in SHAPES[name]} == SHAPES[name]
    size = ModelSize(name, experiment, H100)
    assert size.num_parameters / 1e9 == pytest.approx(billions, rel=0.01)


# A step


def test_sequences_are_shared_and_micro_batches_shrink(tiny: ModelSize) -> None:
    steps = [tiny.usual_step(gpus, 2) for gpus in (1, 8, 128, 512)]
    assert [(s.micro_batch, s.accumulation) for s in steps] == [(8, 64), (8, 8), (4, 1), (1, 1)]
    assert tiny.usual_step(1_024, 2) is None and tiny.usual_step(3, 2) is None
    assert tiny.best_step(1_024) is None


def test_stage_1_runs_as_2_with_several_micro_batches(tiny: ModelSize) -> None:
    assert tiny.step(8, 1, 8, False).stage == 2
    assert tiny.step(8, 1, 64, False).stage == 1
    assert tiny.step(8, 0, 8, False).stage == 0


def test_recomputing_costs_a_forward_and_saves_memory(tiny: ModelSize) -> None:
    plain, twice = (tiny.step(8, 2, 8, recomputed) for recomputed in (False, True))
    assert twice.memory < plain.memory
    third = 1 + (tiny.work.layers + tiny.work.attention) / 3 / tiny.work.per_token
    assert twice.compute / plain.compute == pytest.approx(third)


def test_efficiencies_by_hand() -> None:
    step = _step(8, compute=3.0, network=1.0)
    assert (step.overlapped, step.plain) == (1.0, 0.75)
    step = _step(8, compute=1.0, network=4.0)
    assert (step.overlapped, step.plain) == (0.25, 0.2)


def test_more_gpus_are_never_more_efficient_with_one_micro_batch(tiny: ModelSize) -> None:
    steps = [tiny.step(gpus, 1, 512 // gpus, False) for gpus in (8, 16, 64, 256, 512)]
    for kind in ("overlapped", "plain"):
        found = [getattr(step, kind) for step in steps]
        assert found == sorted(found, reverse=True) and 0 < found[-1] < found[0] <= 1
    assert [s.memory for s in steps] == sorted((s.memory for s in steps), reverse=True)


def test_the_best_step_fits_and_nothing_that_fits_is_faster(tiny: ModelSize) -> None:
    roomy = list(tiny.fitting_steps(64))
    tight = ModelSize(
        "tight", tiny.experiment, replace(H100, memory=sorted({s.memory for s in roomy})[2])
    )
    found, best = list(tight.fitting_steps(64)), tight.best_step(64)
    assert 0 < len(found) < len(roomy) and best is not None
    assert best.memory <= tight.cluster.memory
    assert best.seconds == min(step.seconds for step in found)
    assert all(step.stage > 0 for step in roomy)  # bf16


# Limits


def _step(gpus: int, compute: float = 1.0, network: float = 0.0) -> Step:
    return Step(
        gpus=gpus, stage=1, micro_batch=1, accumulation=1, recomputed=False, memory=1, sent=0.0,
        adapter=0.0, compute=compute, network=network,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("networks", "gpus", "why"),
    [
        ((0.0, 0.5, 1.0), 4, BATCH),
        ((0.0, 0.5, 2.0), 2, NETWORK),
        ((None, 0.5, 1.1), 4, BATCH),  # 1 / 1.1 is above 90 %
        ((0.5, None, None), 1, MEMORY),
        ((2.0, 2.0, 2.0), None, NETWORK),
        ((None, None, None), None, MEMORY),
    ],
)
def test_the_limit_and_its_reason(networks: tuple, gpus: int | None, why: str) -> None:
    steps = [
        (n, None if seconds is None else _step(n, network=seconds))
        for n, seconds in zip((1, 2, 4), networks, strict=True)
    ]
    found = limit(steps, lambda step: step.overlapped)
    assert (found.gpus, found.why) == (gpus, why)
    least = next((n for n, step in steps if step is not None), None)
    assert limits(steps)["least_gpus"] == least


def test_a_slow_network_and_little_memory_are_the_reasons(tiny: ModelSize) -> None:
    def found(cluster: Cluster) -> tuple[int | None, str]:
        size = ModelSize("tiny", tiny.experiment, cluster)
        steps = [(gpus, size.best_step(gpus)) for gpus in (1, 8, 64, 512)]
        ends = limit(steps, lambda step: step.overlapped)
        return ends.gpus, ends.why

    slow = replace(H100.network, within=1e6, between=1e6)
    fast = Network(node=8, within=1e15, between=1e15, latency=0.0)
    assert found(replace(H100, network=fast)) == (512, BATCH)
    assert found(replace(H100, network=slow)) == (1, NETWORK)
    assert found(replace(H100, memory=1e6)) == (None, MEMORY)


# Readers


def test_readers_by_hand() -> None:
    """The example of delivery.py: 1,000 samples a second."""
    kind = Delivery(name="x", seconds=1e-4, stored_bytes=0.0, reads=2, batch_bytes=8.0)
    storage = Storage(bandwidth=1e9, latency=1e-3)
    found = need(kind, 1_024_000, 8, 1_024, storage)
    assert (found["readers_local"], found["readers_network"]) == (1, 3)
    assert found["batch_bytes_a_second"] == 8_000 and found["network_share"] == 0
    stored = need(replace(kind, stored_bytes=1e5), 1_024_000, 8, 1_024, storage)
    assert stored["stored_bytes_a_second"] == 1e8
    assert stored["network_share"] == pytest.approx(0.8)
    double = need(replace(kind, stored_bytes=1e5), 1_024_000, 8, 2_048, storage)
    assert double["stored_bytes_a_second"] == pytest.approx(1e8)  # half the samples, twice as long


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="Linux counts a process's reads")
@pytest.mark.parametrize("contender", ["db1", "db1, zlib frames"])
def test_bytes_and_reads_of_a_sample_are_those_that_the_system_counts(
    tmp_path: Path, contender: str
) -> None:
    def counted() -> tuple[int, int]:
        lines = Path("/proc/self/io").read_text().splitlines()
        figures = dict(line.split(": ") for line in lines)
        return int(figures["rchar"]), int(figures["syscr"])

    from db1.data.mixture import generator_of

    case = image_case(tmp_path, TaskSize(num_episodes=2, num_steps=90), 64)
    source = case.sources[contender]
    windows = [source.windows.draw(generator_of(0, n)) for n in range(64)]
    source.store.read_window(*windows[0])  # opens the files
    own = counted()
    before = counted()
    for window in windows:
        source.store.read_window(*window)
    after = counted()
    own_bytes, own_reads = before[0] - own[0], before[1] - own[1]
    stored, reads = stored_sample(source)
    assert (after[1] - before[1] - own_reads) / len(windows) == reads
    assert (after[0] - before[0] - own_bytes) / len(windows) == pytest.approx(stored, rel=0.1)


def test_a_sample_of_text_is_one_read(tmp_path: Path) -> None:
    (source,) = text_case(tmp_path, 20).sources.values()
    assert stored_sample(source) == (2 * 1_025, 1)


# Options


@pytest.mark.parametrize("text", ["0", "8,0", "", "8,,1", "eight", "-1", "1.5", "9999999", "٣"])
def test_numbers_of_gpus_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--gpus: got .*, expected whole numbers from 1 to"):
        ScalingBenchmark(gpus=text).gpu_counts()


def test_options_are_read() -> None:
    options = ScalingBenchmark(sizes=" 79m, 1.2b,79m", gpus="64, 8,8", batch=96, sequence=256)
    assert options.named_sizes() == ["79m", "1.2b"] and options.gpu_counts() == [8, 64]
    experiment = experiment_of("79m", options)
    training = experiment.training
    assert (training.global_batch_size, training.micro_batch_size) == (96, 32)
    assert experiment.sequence.length == 256
    assert options.cluster.memory == 0.85 * 80e9
