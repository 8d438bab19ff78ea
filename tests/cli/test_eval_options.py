"""Every option of `db1 eval` reaches the evaluation's settings."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from db1.evaluation.settings import EvaluationConfig

OPTIONS = {
    "episodes": ("--episodes", 3),
    "first_episode": ("--first-episode", 5),
    "max_steps": ("--max-steps", 7),
    "policy": ("--policy", "model"),
    "prompt_rule": ("--prompt-rule", "sample_peak"),
    "prompt_strategy": ("--prompt-strategy", "fixed"),
    "prompt_part": ("--prompt-part", "end"),
    "prompt_tokens": ("--prompt-tokens", 30),
    "num_prompts": ("--num-prompts", 2),
    "memory_length": ("--memory", 50),
    "temperature": ("--temperature", 0.7),
    "seed": ("--seed", 9),
    "precision": ("--precision", "float64"),
    "text_memory_length": ("--text-memory", 33),
    "max_text_tokens": ("--max-text-tokens", 200),
    "reference": ("--reference", "measured"),
}
NOT_HERE = {"instruction"}
"""Refused by a run without instructions; see test_instructions.py."""
FLAGS = {"prompt", "prompt_fill", "greedy", "random_weights", "text", "pairs"}


def test_all_settings_have_an_option() -> None:
    assert set(OPTIONS) | FLAGS | NOT_HERE == {field.name for field in fields(EvaluationConfig)}


def test_options_reach_the_settings(db1, experiment: Path, tmp_path: Path) -> None:
    run = experiment.parent / "runs/tiny"
    options = [part for pair in OPTIONS.values() for part in pair]
    arguments = ("eval", run, "--task", "tsp/uniform20", "--sample", "--out", tmp_path / "a")
    status, _, err = db1(*arguments, *options, "--num-environments", 2, "--device", "cpu")
    assert status == 0, err
    results = json.loads((tmp_path / "a/results.json").read_text())
    for name, (_, value) in OPTIONS.items():
        assert results["settings"][name] == value
    assert results["settings"]["greedy"] is False
    assert results["text"]["num_tokens"] <= 200


def test_how_many_run_at_once_changes_nothing(db1, experiment: Path, tmp_path: Path) -> None:
    run, data = experiment.parent / "runs/tiny", experiment.parent / "data"
    arguments = ("eval", run, "--task", "tsp/uniform20", "--episodes", 3, "--no-text")
    returns = []
    for count in (1, 3):
        out = tmp_path / str(count)
        options = ("--num-environments", count, "--data", data, "--out", out)
        assert db1(*arguments, *options)[0] == 0
        results = json.loads((out / "results.json").read_text())
        assert results["text"] is None
        returns.append(results["tasks"]["tsp/uniform20"]["returns"])
    assert returns[0] == returns[1]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--prompt-part", "middle"), "prompt_part"),
        (("--device", "nowhere"), "--device nowhere"),
        (("--policy", "human"), "policy"),
        (("--reference", "jta"), "did you mean 'jat'"),
    ],
)
def test_refuses(db1, experiment: Path, tmp_path: Path, option: tuple, words: str) -> None:
    out = tmp_path / "out"
    status, _, err = db1("eval", experiment.parent / "runs/tiny", *option, "--out", out)
    assert status == 2 and words in err and not out.exists(), err


def test_a_preset_gives_way_to_options(db1, experiment: Path, tmp_path: Path) -> None:
    run = experiment.parent / "runs/tiny"
    arguments = ("eval", run, "--task", "tsp/uniform20", "--device", "cpu", "--workers", 0)
    preset = ("--preset", "released", "--episodes", 2, "--out", tmp_path)
    status, out, err = db1(*arguments, *preset, "--log")
    assert status == 0, err
    results = json.loads((tmp_path / "results.json").read_text())
    settings = results["settings"]
    assert settings["episodes"] == 2 and settings["seed"] == 42
    assert settings["prompt_rule"] == "uniform" and settings["prompt_fill"] is True
    assert all(len(numbers) > 1 for numbers in results["tasks"]["tsp/uniform20"]["prompts"]) is (
        settings["memory_length"] > 19 * 61
    )
    assert out.startswith("Environment tsp/uniform20 test results: return: -")
    assert db1("eval", run, "--preset", "relased")[0] == 2
