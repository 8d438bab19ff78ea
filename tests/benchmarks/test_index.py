"""The benchmark of the index builder compares equal work and tells who did it."""

import pytest

from db1.benchmarks.index import bench_index


def test_compares_with_a_reference():
    told = []
    comparisons = bench_index(True, progress=lambda *report: told.append(report))
    assert [c.unit for c in comparisons] == ["document", "sample", "sample"]
    for comparison in comparisons:
        names = [timing.name for timing in comparison.timings]
        assert names[0] == "db1" and len(names) > 1
        assert all(timing.median > 0 for timing in comparison.timings)
        assert (comparison.work, len(comparison.timings[0].seconds_per_unit)) in {
            (work, rounds) for work, done, rounds in told if done == rounds
        }


def test_megatron_takes_part_where_it_is_installed():
    reason = "megatron-core is not installed; pip install --no-deps megatron-core==0.16.1 runs it"
    pytest.importorskip("megatron.core.datasets.helpers_cpp", reason=reason)
    for comparison in bench_index(True):
        assert "megatron-core" in [timing.name for timing in comparison.timings]
