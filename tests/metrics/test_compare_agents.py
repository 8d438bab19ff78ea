"""An evaluation beside published agents: only what agrees is compared, all else says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_evaluation import episodes_of
from typer.testing import CliRunner

from db1.cli.main import app
from db1.metrics import compare_agents as module
from db1.metrics.compare_agents import compare_agents, compare_published
from db1.metrics.scores import interquartile_mean
from db1.metrics.summary import summarise
from db1.suites.scores.agents import published_agents, read_agent

AGREES, DIFFERS, UNKNOWN = "babyai/GoTo", "metaworld/reach-v3", "classic_control/CartPole-v1"
RULES = {"protocol": "100 episodes", "count": 100}
TOY = {
    "name": "Toy",
    "kind": "one model for all tasks",
    "source": "a paper",
    "rules_source": "its code",
    "license": "MIT",
    "decimals": 2,
    "groups": {
        "same": {"environment": "the same", "comparable": True, "random": 0, "expert": 2} | RULES,
        "other": {"environment": "v2", "comparable": False, "why_not": "v2, here is v3"} | RULES,
    },
    "tasks": {
        AGREES: {"name": "go-to", "group": "same", "mean": 1.0, "std": 0.5},
        "babyai/Open": {
            "name": "open", "group": "same", "mean": 1.0, "std": 0.0, "unseen": True,
        },
        DIFFERS: {"name": "reach-v2", "group": "other", "mean": 300.0, "std": 1.0},
    },
}  # fmt: skip


def results_of(returns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Results whose own references are 0 and 10."""
    tasks = {}
    for task, values in returns.items():
        seeds = list(range(2_000_000, 2_000_000 + len(values)))
        tasks[task] = {
            "episodes": len(values), "seeds": seeds, "lengths": [1] * len(values),
            "normalised": float(np.mean(values)) / 10, "interval": [0.0, 1.0],
            "returns": [float(value) for value in values],
            "random": 0.0, "expert": 10.0, "reference": {"name": "store"},
        }  # fmt: skip
    return {"tasks": tasks, "settings": {}, "provenance": {}} | more


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the toy the only agent."""
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "toy.json").write_text(json.dumps(TOY))
    monkeypatch.setattr(module, "agent_names", lambda: ("toy",))
    monkeypatch.setattr(module, "read_agent", lambda name: read_agent(name, folder))


def test_one_task_agrees_and_one_does_not(toy: None) -> None:
    returns = {AGREES: np.full(20, 1.8), DIFFERS: np.full(20, 9.0), UNKNOWN: np.ones(20)}
    (found,) = compare_agents(results_of(returns))
    assert set(found["tasks"]) == {AGREES} and found["no_result"] == 1
    assert found["not_comparable"] == {"v2, here is v3": [DIFFERS]}
    row = found["tasks"][AGREES]
    assert (row["theirs"], row["ours"]) == (0.5, pytest.approx(0.9))  # by the toy's references
    assert (row["their_return"], row["our_return"]) == (1.0, pytest.approx(1.8))
    # theirs is known to 0.05 / 2 (its standard error in score), ours exactly
    assert row["interval"] == pytest.approx([0.4 - 1.96 * 0.025, 0.4 + 1.96 * 0.025], abs=0.005)
    assert row["better"] == "ours" and found["better"] == {"ours": 1, "theirs": 0, "neither": 0}
    mean = found["overall"]["statistics"]["mean_normalised"]
    assert found["overall"]["num_tasks"] == 1
    assert mean["difference"] == pytest.approx(0.4) and mean["interval"] == row["interval"]
    assert (found["source"], found["license"]) == ("a paper", "MIT")


def test_few_episodes_judge_no_task(toy: None) -> None:
    (found,) = compare_agents(results_of({AGREES: np.full(19, 2.0)}))
    assert found["tasks"][AGREES]["better"] is None and found["few_episodes"] == 1


def test_a_difference_within_the_published_digits_is_none(toy: None) -> None:
    (found,) = compare_agents(results_of({"babyai/Open": np.full(50, 1.004)}))
    row = found["tasks"]["babyai/Open"]
    assert row["interval"][0] < 0 < row["interval"][1] and row["better"] is None
    (found,) = compare_agents(results_of({"babyai/Open": np.full(50, 1.006)}))
    assert found["tasks"]["babyai/Open"]["better"] == "ours"


def test_seen_and_unseen_tasks(toy: None) -> None:
    returns = {AGREES: np.ones(20), "babyai/Open": np.full(20, 0.5)}
    learned = results_of(returns, provenance={"learned": [AGREES]})
    groups = compare_agents(learned)[0]["by_group"]
    counts = {name: group["num_tasks"] for name, group in groups.items()}
    assert counts == {"seen": 1, "unseen": 1, "unseen by Toy": 1}
    mean = groups["unseen"]["statistics"]["mean_normalised"]
    assert (mean["theirs"], mean["ours"]) == (0.5, 0.25)
    groups = compare_agents(results_of(returns))[0]["by_group"]
    assert set(groups) == {"unseen by Toy"}, "nobody said what was learned"


def test_cut_episodes_are_not_compared(toy: None) -> None:
    results = results_of({AGREES: np.ones(20)}, settings={"max_steps": 50})
    (found,) = compare_agents(results)
    assert found["not_comparable"] == {"episodes here were cut off after 50 steps": [AGREES]}
    assert not found["tasks"] and found["overall"] is None
    assert compare_published(results) == []


def test_agents_without_a_task_in_common_are_left_out(toy: None) -> None:
    assert compare_agents(results_of({UNKNOWN: np.ones(3)})) == []


GOLDEN = """
 task            Toy    here   difference    95 % interval   better
 ──────────────────────────────────────────────────────────────────
 babyai/GoTo   0.500   0.100       -0.400   -0.45 .. -0.35      Toy


 over 1 task                          Toy    here   difference    95 % interval
 ──────────────────────────────────────────────────────────────────────────────
 tasks at or above 50 % of expert   1.000   0.000       -1.000   -1.00 .. +0.00
 mean normalised score              0.500   0.100       -0.400   -0.45 .. -0.35
 interquartile mean                 0.500   0.100       -0.400   -0.45 .. -0.35

Toy (one model for all tasks): better here on 0, there on 1 tasks, undecided on 0
Toy, 1 task not compared: v2, here is v3
Toy, 1 task not compared: no result is published
Toy: a paper (MIT)
"""


def test_the_verb_says_what_is_compared_and_why_not(toy: None, tmp_path: Path) -> None:
    scores = {AGREES: np.full(20, 0.2), DIFFERS: np.full(20, 9.0), UNKNOWN: np.ones(20)}
    content = results_of(scores)
    content["summary"] = summarise({task: episodes_of(x / 10) for task, x in scores.items()})
    (tmp_path / "results.json").write_text(json.dumps(content))
    command = ["compare", str(tmp_path), "--published", "--json", str(tmp_path / "c.json")]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.output.splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith(" task "))
    assert "\n".join(lines[start:-1]).strip() == GOLDEN.strip()
    (agent,) = json.loads((tmp_path / "c.json").read_text())["published"]["agents"]
    assert agent["not_comparable"] == {"v2, here is v3": [DIFFERS]}


def test_figures_only_of_tasks_that_the_other_agent_had_under_the_same_rules() -> None:
    assert all(agent["source"] for agent in published_agents().values())
    tasks = {
        AGREES: np.ones(5),
        DIFFERS: np.ones(5),  # JAT's are v2 episodes of another horizon
        UNKNOWN: np.zeros(5),  # in nobody's list
    }
    rows = compare_published(results_of(tasks))
    assert [(row["agent"], row["what"]) for row in rows] == [("JAT", "babyai")]
    assert rows[0]["num_tasks"] == 1 and rows[0]["theirs"] == 0.99
    assert rows[0]["ours"] is None and rows[0]["their_num_tasks"] == 39  # a part would mislead


def test_a_figure_over_all_of_their_tasks_is_set_beside_ours() -> None:
    rng = np.random.default_rng(0)
    known = {task: found for task, found in read_agent("jat").items() if found.comparable}
    returns = {task: rng.normal(0.5, 0.5, 8) for task in known}
    (row,) = compare_published(results_of(returns))
    assert row["num_tasks"] == row["their_num_tasks"] == 39
    scores = [
        (values - known[task].random) / (known[task].expert - known[task].random)
        for task, values in returns.items()
    ]
    # JAT's own code takes the middle half of all episodes of all tasks, not of the tasks' means
    assert row["ours"] == pytest.approx(interquartile_mean(np.concatenate(scores)))
    assert row["ours"] != pytest.approx(interquartile_mean(np.array([s.mean() for s in scores])))
    assert row["our_interval"][0] <= row["ours"] <= row["our_interval"][1]
    assert row["title"] == "interquartile mean of episodes"
