"""`db1 bench attention` compares equal work and tells its limits."""

from __future__ import annotations

import pytest
import torch

from db1.benchmarks import attention
from db1.benchmarks.attention import AttentionBenchmark, run
from db1.errors import ConfigError, Db1Error
from db1.model.attention_kernels import ATTENTION_KERNELS

SMALL = {"batch_size": 1, "num_heads": 2, "head_dim": 8, "num_tokens": 12, "rounds": 1}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_device_speeds", lambda config: (1e9, 1e10))


def test_contenders_agree_and_limits_are_told() -> None:
    comparison = run(AttentionBenchmark(**SMALL, memory=3))
    assert [t.name for t in comparison.timings] == ["db1", "sdpa", "reference"]
    notes = comparison.notes
    assert notes["db1's kernel"] == "blocked"
    assert 0 <= notes["largest difference from the reference, relative"] < 1e-5
    large = run(AttentionBenchmark(**{**SMALL, "num_tokens": 512})).notes
    assert large["peak memory of reference, MB"] > large["peak memory of db1, MB"] > 0
    pairs = 2 * (12 * 3 + 12 * 13 // 2)
    assert notes["operations, GFLOP"] == pytest.approx(2 * 11 * pairs * 8 / 1e9)
    operands = 2 * 8 * (12 + 15 + 15 + 1 + 1 + 16)
    assert notes["bytes at least, MB"] == pytest.approx(4 * (3 * operands + 3 * 2 * 12 * 8) / 1e6)
    assert notes["limit by bytes and operations, ms"] == pytest.approx(
        1e3 * max(notes["bytes at least, MB"] / 1e3, notes["operations, GFLOP"] / 10)
    )


def test_a_kernel_that_does_other_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = type(ATTENTION_KERNELS["sdpa"])
    right = kernel.__call__
    monkeypatch.setattr(kernel, "__call__", lambda self, *args: right(self, *args) * 1.01)
    with pytest.raises(Db1Error, match="'sdpa' .* differ from the reference"):
        run(AttentionBenchmark(**SMALL, encoding="alibi"))


def test_sizes_and_kernels_are_checked() -> None:
    with pytest.raises(ConfigError, match="num_tokens: got 0"):
        AttentionBenchmark(num_tokens=0)
    with pytest.raises(ConfigError, match="precision: got 'fp8', expected one of"):
        AttentionBenchmark(precision="fp8")
    with pytest.raises(ConfigError, match="unknown attention kernel 'flash'"):
        AttentionBenchmark(against=("flash",))
    message = "attention kernel 'token': it takes one token at a time, got 12; leave it out"
    with pytest.raises(ConfigError, match=message):
        run(AttentionBenchmark(**SMALL, against=("token",)))


def test_the_device_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bandwidth, speed = attention._device_speeds(AttentionBenchmark())
    assert bandwidth > 1e8 and speed > 1e8 and torch.get_num_threads() >= 1
