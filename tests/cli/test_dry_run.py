"""`db1 train CONFIG --dry-run`: needs no data, writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"


def test_prints_a_plan_without_data(db1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIGS / "db1_1.2b.yaml"
    status, out, err = db1("train", config, "--dry-run", "--world-size", 8, "training.zero_stage=3")
    assert status == 0, err
    for words in ("1,210,585,216", "ZeRO 3 (configured)", "GiB", "524,288,000,000", "0 of 50"):
        assert words in out
    assert not list(tmp_path.iterdir())


def test_json_has_the_same_figures(db1) -> None:
    status, out, _ = db1("train", CONFIGS / "db1_tiny.yaml", "--dry-run", "--json")
    assert status == 0
    plan = json.loads(out)
    parameters = plan["parameters"]
    assert sum(parameters.values()) == 2 * parameters["total"]
    assert plan["tokens"] == {"per_step": 2_688, "num_steps": 3_800, "total": 10_214_400}
    assert sum(source["share"] for source in plan["sources"]) == pytest.approx(1)


def test_data_that_is_there_is_counted(db1, experiment: Path) -> None:
    _, out, _ = db1("train", experiment, "--dry-run", "--json")
    sources = {source["name"]: source for source in json.loads(out)["sources"]}
    assert sources["tsp/uniform20"]["stored"] == 6
    assert sources["psalm"]["stored"] > 1
    assert sources["psalm"]["passes"] == pytest.approx(
        sources["psalm"]["sequences"] / sources["psalm"]["stored"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dry-run", "training.nmu_steps=1"), "num_steps"),
        (("--dry-run", "--world-size", 3), "global_batch_size"),
        (("--world-size", 2), "--dry-run"),
        (("--json",), "--dry-run"),
    ],
)
def test_refuses(db1, arguments: tuple, words: str) -> None:
    status, out, err = db1("train", CONFIGS / "db1_tiny.yaml", *arguments)
    assert status == 2 and words in err and not out, err
