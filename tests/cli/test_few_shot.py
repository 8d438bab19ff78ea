"""Fine-tuning and learning curves through the command line, on a task that the model never saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASK = "classic_control/Pendulum-v1"


@pytest.fixture(scope="module")
def options(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of configs/finetune.yaml that make it small."""
    folder = tmp_path_factory.mktemp("few_shot")
    return [
        f"init_from={experiment.parent}/runs/tiny",
        f"task={TASK}",
        f"runs={folder}/runs",
        f"data.root={folder}/data",
        "data.heldout_share=0.2",
        "data.evaluation_samples=4",
        "training.num_steps=3",
        "training.warmup_steps=1",
        "training.micro_batch_size=4",
        "training.global_batch_size=4",
        "training.num_threads=1",
    ]


def _data(options: list[str]) -> Path:
    return Path(next(o for o in options if o.startswith("data.root=")).split("=")[1])


@pytest.fixture(scope="module")
def runs(options: list[str]) -> Path:
    return Path(next(o for o in options if o.startswith("runs=")).split("=")[1])


def _collect(db1, options: list[str]) -> None:
    arguments = (TASK, "--episodes", 5, "--max-steps", 60, "--reference-episodes", 1)
    status, _, err = db1("collect", *arguments, "--out", _data(options))
    assert status == 0, err


def test_missing_demonstrations_name_the_command(db1, options: list[str], tmp_path: Path) -> None:
    status, _, err = db1(
        "train", ROOT / "configs/finetune.yaml", *options, f"data.root={tmp_path}", "episodes=3"
    )
    assert status == 2 and err.count("\n") == 1
    assert f"db1 collect {TASK} --episodes 4 --out {tmp_path}" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("lora", [(), ("lora.rank=2",)])
def test_trains_and_acts(db1, options: list[str], runs: Path, lora: tuple[str, ...]) -> None:
    if lora:
        pytest.importorskip("peft", reason='pip install "db1[lora]"')
    _collect(db1, options)
    command = ("train", ROOT / "configs/finetune.yaml", *options, "episodes=3", *lora)
    status, _, err = db1(*command)
    assert status == 0, err
    run = runs / ("finetune-Pendulum-v1-3-episodes" + ("-lora-2" if lora else ""))
    status, _, err = db1("eval", run, "--episodes", 1, "--out", run / "evaluation")
    assert status == 0, err
    results = json.loads((run / "evaluation/results.json").read_text())
    assert set(results["tasks"]) == {TASK}
    assert min(results["tasks"][TASK]["seeds"]) >= 2_000_000
    before = (run / "metrics.jsonl").read_bytes()
    assert db1(*command)[0] == 0  # the same command again has nothing to do
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_learning_curve(db1, options: list[str], tmp_path: Path) -> None:
    _collect(db1, options)
    command = (
        "bench", "few-shot", ROOT / "configs/finetune.yaml", *options, "--episodes", 1,
        "--episodes", 3, "--seeds", 2, "--evaluation-episodes", 1, "--memory", 0,
        "--processes", 1, "--out", tmp_path,
    )  # fmt: skip
    status, out, err = db1(*command)
    assert status == 0, err
    assert "pretrained - scratch at 3 episodes" in out and "2 seeds" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["points"]) == 2 * 2 * 2
    assert {(row["start"], row["episodes"]) for row in results["curve"]} == {
        (start, episodes) for start in ("pretrained", "scratch") for episodes in (1, 3)
    }
    for gain in results["gains"]:
        scores = {
            (p["start"], p["seed"]): p["score"]
            for p in results["points"]
            if p["episodes"] == gain["episodes"]
        }
        pairs = [scores["pretrained", seed] - scores["scratch", seed] for seed in (0, 1)]
        assert gain["mean"] == pytest.approx(sum(pairs) / 2)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(files) == 8
    assert db1(*command)[0] == 0  # goes on: nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--start", "pretraned"), ("pretraned", "pretrained")),
        (("task=null",), ("without a task",)),
        (("init_from=/nowhere",), ("/nowhere: no such folder",)),
    ],
)
def test_refuses(db1, options: list[str], tmp_path: Path, arguments, words) -> None:
    flags = [a for a in arguments if a.startswith("--")]
    overrides = [] if flags else list(arguments)
    extra = list(arguments) if flags else []
    out = tmp_path / "out"
    status, _, err = db1(
        "bench", "few-shot", ROOT / "configs/finetune.yaml", *options, *overrides, *extra,
        "--out", out,
    )  # fmt: skip
    assert status == 2 and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not out.exists()
