"""The contenders of `db1 bench decode` do the same work."""

from __future__ import annotations

import pytest
import torch

from db1.benchmarks import decode
from db1.benchmarks.decode import DecodeBenchmark, run
from db1.errors import ConfigError, Db1Error

SMALL = {"width": 32, "num_layers": 3, "num_heads": 4, "num_tokens": 2, "rounds": 2}


@pytest.mark.parametrize("memory_length", [1, 7, 40])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_all_contenders_agree(memory_length: int, batch_size: int) -> None:
    config = DecodeBenchmark(**SMALL, memory_length=memory_length, batch_size=batch_size)
    comparison = run(config)
    assert {t.name for t in comparison.timings} == {
        "db1",
        "ring",
        "hidden states",
        "whole text",
    }
    assert 0 <= comparison.notes["largest difference of the outputs"] < 1e-5


def test_a_contender_that_does_other_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decode.HiddenStateDecoder._attention
    monkeypatch.setattr(
        decode.HiddenStateDecoder, "_attention", lambda self, *args: right(self, *args) * 1.01
    )
    with pytest.raises(Db1Error, match="hidden states"):
        run(DecodeBenchmark(**SMALL, memory_length=8))


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    run(DecodeBenchmark(**SMALL, memory_length=4, threads=before + 1, whole=False))
    assert torch.get_num_threads() == before


def test_refuses_sizes_below_1() -> None:
    with pytest.raises(ConfigError, match="rounds: got 0"):
        DecodeBenchmark(rounds=0)


@pytest.mark.slow
def test_acting_is_twenty_times_faster_at_full_width() -> None:
    config = DecodeBenchmark(width=2_048, num_layers=1, memory_length=1_024, whole=False, threads=1)
    assert run(config).ratio("hidden states") >= 20
