"""The training step beside the released formulation of it, and what is counted without a GPU."""

from __future__ import annotations

import pytest
import torch

from db1.benchmarks.released_step import ReleasedFormulation, relative_shift
from db1.benchmarks.step_counts import counts_of_layer, graph_breaks
from db1.benchmarks.timing import OURS
from db1.benchmarks.training_step import RELEASED, StepBenchmark, peak_of, random_batch, run
from db1.errors import ConfigError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL

SMALL = {"width": 32, "num_layers": 2, "num_heads": 2, "length": 24, "vocabulary_size": 90}


@pytest.mark.parametrize("targets", [1.0, 0.1])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_compute_the_same(targets: float, precision: str) -> None:
    config = StepBenchmark(**SMALL, targets=targets, precision=precision, rounds=2, threads=1)
    comparison = run(config)
    assert {timing.name for timing in comparison.timings} == {OURS, RELEASED}
    assert comparison.ratio(RELEASED) > 0
    assert comparison.notes["host waits a micro-batch"] == 0
    assert comparison.notes["graph breaks"] == comparison.notes["graphs traced again"] == 0
    assert comparison.notes["operations of a step, 10^9"] > 0


def test_shift_moves_distances_to_keys() -> None:
    """Descending distances 3 2 1 0: query i sees key j at distance i - j."""
    by_distance = torch.arange(3, -1, -1.0).expand(1, 4, 4)[..., None]
    by_key = relative_shift(by_distance)[0, :, :, 0]
    for query in range(4):
        assert by_key[query, : query + 1].tolist() == [query - key for key in range(query + 1)]


def test_targets_are_a_share_of_each_sequence() -> None:
    batch = random_batch(StepBenchmark(**SMALL, targets=0.25))
    assert batch.loss_mask.sum(dim=1).tolist() == [6, 6]
    assert len(batch.target_places) == 12


def test_other_options_are_refused() -> None:
    sizes = {"num_layers": 1, "num_heads": 2, "width": 8, "memory_length": 4}
    model = TransformerXL(ModelConfig(**sizes, normalization="pre"), 10)
    with pytest.raises(ConfigError, match="released formulation has post-LN"):
        ReleasedFormulation(model)
    with pytest.raises(ConfigError, match="precision: got 'fp8'"):
        StepBenchmark(precision="fp8")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU here"):
            StepBenchmark(device="cuda")


def test_peak_memory_of_a_step() -> None:
    peak = peak_of(lambda: torch.ones(50_000_000).sum(), torch.device("cpu"))
    if peak is None:
        pytest.skip("needs Linux")
    assert 190e6 < peak < 260e6


@pytest.mark.parametrize("position_encoding", ["transformer_xl", "rotary", "alibi", "none"])
def test_counts_of_a_layer(position_encoding: str) -> None:
    config = ModelConfig(
        num_layers=3,
        num_heads=2,
        width=16,
        memory_length=12,
        position_encoding=position_encoding,
        stochastic_depth=0.1,
        stochastic_depth_rule="linear",
    )
    counts = counts_of_layer(config, 2, 12)
    assert 20 < counts["operations a layer, uncompiled"] < 200
    assert counts["MB that a layer reads and writes"] > 0
    assert counts["host waits a micro-batch"] == 0
    assert graph_breaks(config, 2, 12)["graph breaks"] == 0
