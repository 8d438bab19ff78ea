from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.evaluation import evaluate as module
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import EvaluationData, ExecutionConfig, TaskSelection
from db1.evaluation.plan import select_tasks
from db1.evaluation.results import RESULTS_FILE, read_results
from db1.evaluation.settings import EvaluationConfig
from db1.suites.seeds import seed_for

CARTPOLE, ACROBOT = "classic_control/CartPole-v1", "classic_control/Acrobot-v1"
ON_CPU = ExecutionConfig(workers=0, device="cpu")
QUICK = EvaluationConfig(episodes=3, num_prompts=2, text=False)


def run_cartpole(run_folder: Path, out: Path, config: EvaluationConfig = QUICK, **options: Any):
    given = {"selection": TaskSelection(tasks=[CARTPOLE]), "execution": ON_CPU} | options
    return evaluate(run_folder, config, out=out, **given)


def test_results_have_the_documented_keys(run_folder: Path, data_root: Path, tmp_path: Path):
    config = EvaluationConfig(episodes=3, memory_length=24)
    results = run_cartpole(run_folder, tmp_path, config)
    assert results == read_results(tmp_path)
    entry = results["tasks"][CARTPOLE]
    assert set(entry) == {
        "episodes", "seeds", "returns", "lengths", "successes", "random", "expert", "reference",
        "normalised", "interval", "prompts", "seconds", "metrics",
    }  # fmt: skip
    assert entry["seeds"] == [seed_for("evaluation", i) for i in range(3)]
    assert entry["returns"] == [float(n) for n in entry["lengths"]]
    references = json.loads((data_root / CARTPOLE / "references.json").read_text())
    random, expert = references["random"]["mean"], references["expert"]["mean"]
    score = (np.mean(entry["returns"]) - random) / (expert - random)
    assert entry["normalised"] == pytest.approx(score)
    assert entry["interval"][0] <= score <= entry["interval"][1]
    assert {
        "num_tasks", "num_at_least_50", "share_at_least_50", "mean_normalised",
        "interquartile_mean", "intervals", "threshold_curve",
    } <= set(results["summary"])  # fmt: skip
    assert set(results["provenance"]) == {
        "checkpoint", "config", "few_shot", "learned", "versions", "command",
    }  # fmt: skip
    assert results["provenance"]["checkpoint"]["tag"] == "step-00000002"
    assert {"db1", "torch", "numpy", "python", "gymnasium"} <= set(
        results["provenance"]["versions"]
    )
    assert results["settings"]["prompt"] is True and results["settings"]["memory_length"] == 24
    text = results["text"]
    assert text["ratio"] == pytest.approx(text["perplexity"] / text["unigram_perplexity"])
    assert results["failures"] == {}


def test_policies_without_a_model(run_folder: Path, tmp_path: Path) -> None:
    scores = {}
    for policy in ("random", "expert"):
        config = EvaluationConfig(episodes=2, policy=policy)
        results = run_cartpole(run_folder, tmp_path / policy, config)
        scores[policy] = results["tasks"][CARTPOLE]["normalised"]
        assert results["provenance"]["checkpoint"] is None and results["text"] is None
    assert scores["expert"] > 0.9 and scores["random"] < 0.2


def test_the_number_of_environments_and_the_order_change_nothing(
    run_folder: Path, tmp_path: Path
) -> None:
    returns = [
        run_cartpole(run_folder, tmp_path / str(n), execution=replace(ON_CPU, num_environments=n))[
            "tasks"
        ][CARTPOLE]["returns"]
        for n in (1, 2, 8)
    ]
    assert returns[0] == returns[1] == returns[2]


def test_resumes_finished_tasks(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    original = module.evaluate_task

    def record(task: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if ran.count(ACROBOT) == 0 and task == ACROBOT:
            ran.append(task)
            raise KeyboardInterrupt
        ran.append(task)
        return original(task, *arguments, **options)

    monkeypatch.setattr(module, "evaluate_task", record)
    config = EvaluationConfig(episodes=1, text=False, policy="random")
    with pytest.raises(KeyboardInterrupt):
        evaluate(run_folder, config, out=tmp_path)
    cut_off = read_results(tmp_path)
    assert list(cut_off["tasks"]) == [CARTPOLE] and cut_off["summary"]["num_tasks"] == 1
    whole = evaluate(run_folder, config, out=tmp_path)
    assert ran == [CARTPOLE, ACROBOT, ACROBOT]
    assert whole["tasks"][CARTPOLE] == cut_off["tasks"][CARTPOLE]
    assert whole["summary"]["num_tasks"] == 2
    evaluate(run_folder, config, out=tmp_path)
    assert len(ran) == 3


def test_refuses_other_settings_and_other_weights(run_folder: Path, tmp_path: Path) -> None:
    run_cartpole(run_folder, tmp_path)
    with pytest.raises(ConfigError, match=r"greedy: True there, False now.*--overwrite"):
        run_cartpole(run_folder, tmp_path, EvaluationConfig(**{**vars(QUICK), "greedy": False}))
    with pytest.raises(ConfigError, match="weights: "):
        run_cartpole(run_folder, tmp_path, checkpoint="step-00000001")
    before = (tmp_path / RESULTS_FILE).read_text()
    run_cartpole(run_folder, tmp_path)
    assert read_results(tmp_path)["tasks"] == json.loads(before)["tasks"]
    other = EvaluationConfig(**{**vars(QUICK), "prompt": False})
    results = run_cartpole(run_folder, tmp_path, other, overwrite=True)
    assert results["settings"]["prompt"] is False


def test_random_weights_are_a_control_of_their_own(run_folder: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(episodes=1, text=False, random_weights=True)
    results = run_cartpole(run_folder, tmp_path, config)
    assert results["provenance"]["checkpoint"]["sha256"] is None
    assert results["provenance"]["checkpoint"]["random_weights"] is True


def test_a_broken_environment_costs_its_task_alone(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from db1.suites.classic_control import ClassicControlEnv

    step = ClassicControlEnv._step

    def explode(self: ClassicControlEnv, action: Any):
        if self.task_id == CARTPOLE:
            raise RuntimeError("the pole fell off")
        return step(self, action)

    monkeypatch.setattr(ClassicControlEnv, "_step", explode)
    config = EvaluationConfig(episodes=1, text=False, policy="random")
    results = evaluate(run_folder, config, out=tmp_path)
    assert list(results["tasks"]) == [ACROBOT]
    assert results["failures"] == {CARTPOLE: "RuntimeError: the pole fell off"}
    monkeypatch.undo()
    repaired = evaluate(run_folder, config, out=tmp_path)
    assert set(repaired["tasks"]) == {CARTPOLE, ACROBOT} and repaired["failures"] == {}


def test_references_of_another_environment_version(
    run_folder: Path, data_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root / CARTPOLE, root / CARTPOLE)
    path = root / CARTPOLE / "references.json"
    references = json.loads(path.read_text())
    del references["checksum"]  # as of an older db1
    references["environment"]["horizon"] = "200"
    path.write_text(json.dumps(references))
    with pytest.raises(DataError, match="horizon: 200 then, 500 now"):
        run_cartpole(run_folder, tmp_path / "out", data=EvaluationData(data=root))
    assert not (tmp_path / "out").exists()
    results = run_cartpole(
        run_folder, tmp_path / "out", data=EvaluationData(data=root, allow_version_mismatch=True)
    )
    assert results["version_mismatches"] == {CARTPOLE: "horizon: 200 then, 500 now"}
    path.unlink()
    store_only = replace(QUICK, reference="store")
    with pytest.raises(DataError, match=f"no reference returns of {CARTPOLE}.*db1 collect"):
        run_cartpole(run_folder, tmp_path / "other", store_only, data=EvaluationData(data=root))


def test_selects_tasks() -> None:
    learned = [CARTPOLE, "babyai/GoTo"]
    assert select_tasks(learned, None, None) == learned
    assert select_tasks(learned, None, ["babyai"]) == ["babyai/GoTo"]
    assert select_tasks(learned, [ACROBOT, ACROBOT], None) == [ACROBOT]
    with pytest.raises(ConfigError, match="did you mean 'babyai'"):
        select_tasks(learned, None, ["babyia"])
    with pytest.raises(ConfigError, match="unknown task"):
        select_tasks(learned, ["classic_control/CartPole-v7"], None)


@pytest.mark.parametrize(
    "bad",
    [{"policy": "oracle"}, {"episodes": 0}, {"memory_length": -1}, {"prompt_part": "middle"}],
)
def test_refuses_bad_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EvaluationConfig(**bad)


def test_a_task_without_demonstrations(run_folder: Path, data_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root / CARTPOLE, root / CARTPOLE)
    options = {"data": EvaluationData(data=root), "execution": ON_CPU}
    config = replace(QUICK, reference="none")
    with pytest.raises(DataError, match=f"no demonstrations of {ACROBOT}.*--allow-missing-prompt"):
        evaluate(run_folder, config, out=tmp_path / "out", **options)
    retrieved = replace(config, policy="retrieval", prompt=False)
    with pytest.raises(DataError, match="retrieval plays their actions.*or leave retrieval out$"):
        evaluate(run_folder, retrieved, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    results = evaluate(
        run_folder,
        config,
        out=tmp_path / "out",
        data=EvaluationData(data=root, allow_missing_prompt=True),
        execution=ON_CPU,
    )
    assert list(results["missing_prompts"]) == [ACROBOT]
    assert results["tasks"][ACROBOT]["prompts"] == [[]] * 3
    assert all(results["tasks"][CARTPOLE]["prompts"])
    without = replace(config, prompt=False)
    bare = evaluate(run_folder, without, out=tmp_path / "bare", **options)
    assert bare["missing_prompts"] == {}
    assert bare["tasks"][ACROBOT]["returns"] == results["tasks"][ACROBOT]["returns"]


def test_a_vocabulary_that_lacks_what_a_task_needs(run_folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    shutil.copytree(run_folder, small)
    config = (small / "config.yaml").read_text()
    (small / "config.yaml").write_text(config.replace("num_discrete: 16", "num_discrete: 2"))
    with pytest.raises(DataError, match=f"{ACROBOT}: the vocabulary of .* lacks what the task"):
        evaluate(small, QUICK, out=tmp_path / "out", execution=ON_CPU)
    assert not (tmp_path / "out").exists()


def test_episodes_that_are_cut_off_have_no_score(run_folder: Path, tmp_path: Path) -> None:
    results = run_cartpole(run_folder, tmp_path, replace(QUICK, max_steps=5))
    entry = results["tasks"][CARTPOLE]
    assert entry["lengths"] == [5] * 3 and entry["normalised"] is None
    assert results["summary"]["num_tasks"] == 0
