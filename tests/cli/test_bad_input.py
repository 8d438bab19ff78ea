"""Bad input: one clear line on stderr, exit status 2, nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest


def _refused(outcome: tuple[int, str, str], *words: str) -> None:
    status, _, err = outcome
    lines = [line for line in err.splitlines() if line.strip()]
    assert status == 2, err
    assert len(lines) == 1 and lines[0].startswith("db1: error: "), err
    for word in words:
        assert word in lines[0], (word, lines[0])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learning_rat=1", ("training.learning_rat", "learning_rate")),
        ("training.num_steps=many", ("training.num_steps", "many", "int")),
        ("modle.width=3", ("modle", "model")),
        ("training.learning_rate=0", ("learning_rate",)),
        ("training.global_batch_size=5", ("global_batch_size",)),
        ("model.num_heads=5", ("num_heads",)),
        ("data.tasks.tsp/uniform21.weight=1", ("tsp/uniform21",)),
        ("data.tasks.tsp/uniform20.weight=-1", ("weight",)),
        ("vocabulary.text_size=300", ("text_size",)),
        ("training.precision=fp16", ("fp16",)),
    ],
)
def test_train_refuses(db1, experiment: Path, override: str, words: tuple[str, ...]) -> None:
    _refused(db1("train", experiment, "name=refused", override), *words)
    assert not (experiment.parent / "runs/refused").exists()


def test_a_run_folder_of_another_configuration(db1, experiment: Path) -> None:
    _refused(db1("train", experiment, "model.width=64"), "model.width", "64")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("tsp/uniform2", ("tsp/uniform2", "uniform20")),
        ("tps/uniform20", ("tps", "tsp")),
        ("uniform20", ("uniform20",)),
    ],
)
def test_an_unknown_task(db1, tmp_path: Path, task: str, words: tuple[str, ...]) -> None:
    _refused(db1("collect", task, "--episodes", 1, "--out", tmp_path / "x"), *words)
    assert not (tmp_path / "x").exists()


def test_a_suite_without_its_package(db1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "minigrid" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    outcome = db1("collect", "babyai/GoToObj", "--episodes", 1, "--out", tmp_path / "x")
    _refused(outcome, "minigrid", 'pip install "db1[babyai]"')
    assert not (tmp_path / "x").exists()


def test_broken_stores(db1, experiment: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(experiment.parent / "data/tsp/uniform20", store)
    (store / "rewards.bin").write_bytes((store / "rewards.bin").read_bytes()[:40])
    _refused(db1("inspect", store), "truncated")
    (store / "header.json").write_text('{"format": "something else"}')
    _refused(db1("inspect", store), "header.json")
    _refused(db1("inspect", tmp_path), "header.json")


def test_text_of_another_tokenizer(db1, experiment: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(experiment.parent / "data", data)
    other = tmp_path / "other"
    lines = (json.dumps({"text": f"something else entirely {n}"}) for n in range(99))
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    assert db1("import", "text", tmp_path / "b.jsonl", "--out", other, "--text-size", 300)[0] == 0
    shutil.copy(other / "tokenizer.json", data / "text/psalm/tokenizer.json")
    _refused(db1("train", experiment, "name=refused", f"data.root={data}"), "tokenizer")
    assert not (experiment.parent / "runs/refused").exists()


def test_an_empty_corpus(db1, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    _refused(db1("import", "text", tmp_path / "empty.txt", "--out", tmp_path / "out"), "empty.txt")
    assert not (tmp_path / "out" / "train.bin").exists()


def test_eval_refuses_foreign_results_and_folders(db1, experiment: Path, tmp_path: Path) -> None:
    run = experiment.parent / "runs/tiny"
    arguments = ("eval", run, "--task", "tsp/uniform20", "--out", tmp_path / "e", "--episodes")
    assert db1(*arguments, 1)[0] == 0
    _refused(db1(*arguments, 2), "episodes")
    _refused(db1("eval", tmp_path), "run folder")
    _refused(db1("report", tmp_path), "results.json")
    _refused(db1("eval", run, "--task", "tsp/uniform21"), "tsp/uniform21")


def test_usage_errors_have_status_2(db1) -> None:
    assert db1("no-such-verb")[0] == 2
    assert db1("train")[0] == 2
    assert db1("collect")[0] == 2
