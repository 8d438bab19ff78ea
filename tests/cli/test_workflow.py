"""The whole way through the command line: collect, inspect, train, act, report, write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from db1.cli.main import main  # noqa: F401  (import errors should fail here first)
from db1.metrics_log import read_metrics


def _run(experiment: Path) -> Path:
    return experiment.parent / "runs" / "tiny"


def test_collect_again_reuses_what_is_there(db1, experiment: Path) -> None:
    store = experiment.parent / "data/tsp/uniform20/episodes.bin"
    before = store.read_bytes()
    status, out, err = db1("collect", "--config", experiment, "--reference-episodes", 3)
    assert status == 0, err
    assert store.read_bytes() == before
    assert "tsp/uniform20" in out and "-" in out


def test_inspect_describes_stores_and_sequences(db1, experiment: Path) -> None:
    status, out, _ = db1("inspect", experiment.parent / "data/tsp/uniform20")
    assert status == 0 and "valid" in out and "tsp_elkai" in out
    status, out, _ = db1("inspect", experiment.parent / "data/text/psalm")
    assert status == 0 and "heldout" in out
    shown = {db1("inspect", experiment, "--step", 3, "--slot", slot)[1] for slot in range(4)}
    text = "".join(shown)
    assert len(shown) == 4
    assert all(word in text for word in ("separator", "action", "number", "text", "loss"))


def test_training_learns_and_logs(experiment: Path) -> None:
    run = _run(experiment)
    losses = [record["loss"] for record in read_metrics(run, "train")]
    assert len(losses) == 12 and losses[-1] < losses[0]
    evaluation = read_metrics(run, "evaluation")[-1]["loss_by_task"]
    assert set(evaluation) == {"classic_control/CartPole-v1", "tsp/uniform20", "psalm"}
    assert list((run / "tensorboard").glob("events.*"))
    assert (run / "checkpoints/latest").read_text().strip() == "step-00000012"


def test_the_same_seed_gives_identical_losses(db1, experiment: Path) -> None:
    status, _, err = db1("train", experiment, "name=again")
    assert status == 0, err
    again = experiment.parent / "runs" / "again"
    losses = [[r["loss"] for r in read_metrics(run, "train")] for run in (_run(experiment), again)]
    assert losses[0] == losses[1]


def test_an_interrupted_run_goes_on(db1, experiment: Path) -> None:
    """Half the steps, then the same command with all of them: as if never interrupted."""
    assert db1("train", experiment, "name=half", "training.num_steps=6")[0] == 0
    status, _, err = db1("train", experiment, "name=half", "training.num_steps=12")
    assert status == 0, err
    records = read_metrics(experiment.parent / "runs/half", "train")
    assert [record["step"] for record in records] == list(range(1, 13))


def test_a_run_of_an_older_db1_goes_on(db1, experiment: Path) -> None:
    """Its folder does not name a setting that came later; any other value is another run."""
    assert db1("train", experiment, "name=older", "training.num_steps=2")[0] == 0
    written = experiment.parent / "runs/older/config.yaml"
    older = yaml.safe_load(written.read_text())
    assert older["model"].pop("stochastic_depth") == 0.0
    written.write_text(yaml.safe_dump(older))
    more = ("train", experiment, "name=older", "training.num_steps=3")
    status, _, err = db1(*more, "model.stochastic_depth=0.5")
    assert status == 2 and "model.stochastic_depth: 0.0 -> 0.5" in err
    assert db1(*more)[0] == 0
    assert [r["step"] for r in read_metrics(written.parent, "train")] == [1, 2, 3]


@pytest.mark.parametrize("prompt", ["--prompt", "--no-prompt"])
@pytest.mark.parametrize("memory", [0, 96])
def test_eval_with_and_without_prompt_and_memory(
    db1, experiment: Path, tmp_path: Path, prompt: str, memory: int
) -> None:
    arguments = (_run(experiment), "--episodes", 2, prompt, "--memory", memory, "--out", tmp_path)
    status, out, err = db1("eval", *arguments)
    assert status == 0, err
    assert "of 2 tasks at or above 50 % of expert" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["prompt"] is (prompt == "--prompt")
    assert results["settings"]["memory_length"] == memory
    entry = results["tasks"]["tsp/uniform20"]
    assert len(entry["returns"]) == len(entry["seeds"]) == 2
    expected = (np.mean(entry["returns"]) - entry["random"]) / (entry["expert"] - entry["random"])
    assert entry["normalised"] == pytest.approx(expected)
    assert results["text"]["perplexity"] > 1
    assert db1("report", tmp_path, "--html", tmp_path / "page.html")[0] == 0
    page, text = (tmp_path / "page.html").read_text(), (tmp_path / "report.md").read_text()
    for content in (page, text):
        assert "tsp/uniform20" in content and "memory_length" in content


def test_the_expert_scores_one_and_random_about_zero(db1, experiment: Path, tmp_path: Path) -> None:
    scores = {}
    for policy in ("expert", "random"):
        out = tmp_path / policy
        arguments = ("--policy", policy, "--episodes", 8, "--out", out, "--task", "tsp/uniform20")
        assert db1("eval", _run(experiment), *arguments)[0] == 0
        scores[policy] = json.loads((out / "results.json").read_text())["summary"][
            "mean_normalised"
        ]
    assert scores["expert"] == pytest.approx(1, abs=0.15)
    assert scores["random"] == pytest.approx(0, abs=0.25)


def test_generate_writes_on(db1, experiment: Path) -> None:
    status, out, err = db1("generate", _run(experiment), "--prompt", "And the", "--tokens", 8)
    assert status == 0, err
    assert out.startswith("And the") and len(out) > len("And the") + 1
    assert db1("generate", _run(experiment), "--prompt", "And the", "--tokens", 8)[1] == out


def test_parity_with_the_released_model(db1) -> None:
    golden = Path(__file__).parents[1] / "golden"
    assert db1("parity", golden / "released.npz")[0] == 0
    assert db1("parity", golden / "released.npz", "--tolerance", 1e-12)[0] == 1


def test_tasks_and_doctor(db1) -> None:
    rows = json.loads(db1("tasks", "--json")[1])
    assert {"id", "suite", "runnable", "reason", "expert", "references"} <= set(rows[0])
    assert any(row["id"] == "classic_control/CartPole-v1" and row["runnable"] for row in rows)
    status, out, _ = db1("doctor")
    assert status == 0 and "suite classic_control" in out
