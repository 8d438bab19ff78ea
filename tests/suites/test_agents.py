"""Results of published agents by task: read, complete, and each with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db1.errors import DataError
from db1.importers.jat_tasks import jat_task_id
from db1.splits import split_tasks
from db1.suites import task_ids
from db1.suites.scores import published_of
from db1.suites.scores.agents import FOLDER, agent_names, read_agent, results_of_agents

ALL_TASKS = set(task_ids())
COUNTS = {"jat": (157, 39), "tdmpc2": (28, 28), "vintix": (61, 0)}
"""Tasks of each agent, and those whose rules agree with those here."""


def agent_file(**changes: Any) -> dict[str, Any]:
    """An agent with one result, of two episodes."""
    group = {"environment": "the same", "protocol": "2 episodes", "count": 2, "comparable": True}
    return {
        "name": "Toy",
        "kind": "one model",
        "source": "a paper",
        "rules_source": "its code",
        "license": "MIT",
        "decimals": 1,
        "groups": {"tsp": group | {"random": 0, "expert": 10}},
        "tasks": {"tsp/uniform20": {"name": "t", "group": "tsp", "mean": 5.0, "std": 1.0}},
    } | changes


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    """Reads an agent's file with this content."""

    def read_content(content: Any) -> Any:
        (tmp_path / "toy.json").write_text(json.dumps(content))
        return read_agent("toy", tmp_path)

    return read_content


def test_agents_that_come_with_db1() -> None:
    assert agent_names() == tuple(COUNTS)
    for name in agent_names():
        known = read_agent(name)
        assert set(known) <= ALL_TASKS
        assert (len(known), sum(found.comparable for found in known.values())) == COUNTS[name]
        for found in known.values():
            assert found.license in ("Apache-2.0", "MIT")
            assert "arXiv:" in found.source and "commit" in found.rules_source
            assert "commit" in found.source or "revision" in found.source


def test_jat_agrees_with_its_references_and_its_data() -> None:
    for task, found in read_agent("jat").items():
        reference = published_of(task, "jat")
        assert reference is not None and jat_task_id(found.name) == task
        assert (found.comparable, found.environment, found.why_not) == (
            reference["comparable"],
            reference["environment"],
            reference.get("why_not"),
        )
        assert (found.random, found.expert) == (reference["random"], reference["expert"])


@pytest.mark.parametrize(
    ("task", "name", "mean", "score"),
    [
        ("babyai/GoTo", "jat", 0.78, 0.82),  # scores as they were published beside the returns
        ("atari/Pong", "jat", 16.54, 0.89),
        ("metaworld/push-back-v3", "jat", 71.38, 0.84),
        ("mujoco/HumanoidStandup-v5", "jat", 113587.22, 0.33),
        ("metaworld/door-unlock-v3", "vintix", 352.86, 0.21),
        ("dmc/cheetah-run", "tdmpc2", (848.3 + 922.9 + 916.3) / 3, 0.896),
    ],
)
def test_published_returns_and_scores(task: str, name: str, mean: float, score: float) -> None:
    found = results_of_agents(task)[name]
    assert found.mean == pytest.approx(mean)
    digits = found.rounding / abs((found.expert or 1) - (found.random or 0))
    assert found.score == pytest.approx(score, abs=0.0051 + digits)


def test_no_score_where_the_expert_is_below_random() -> None:
    bowling = results_of_agents("atari/Bowling")["jat"]
    assert bowling.expert < bowling.random and bowling.score is None


def test_tasks_that_an_agent_did_not_learn() -> None:
    known = read_agent("vintix")
    unseen = {task for task, found in known.items() if found.unseen}
    assert unseen == set(split_tasks("vintix-test"))


def test_seeds_are_summed_up(read: Callable[..., Any]) -> None:
    task = {"name": "t", "group": "tsp", "values": [1.0, 2.0, 6.0]}
    found = read(agent_file(tasks={"tsp/uniform20": task}))["tsp/uniform20"]
    assert (found.mean, found.count, found.score) == (3.0, 3, 0.3)
    assert found.std == pytest.approx(7.0**0.5) and found.rounding == 0.05


def with_group(**changes: Any) -> dict[str, Any]:
    content = agent_file()
    group = {**content["groups"]["tsp"], **changes}
    return content | {"groups": {"tsp": {k: v for k, v in group.items() if v is not None}}}


def with_task(**changes: Any) -> dict[str, Any]:
    task = {**agent_file()["tasks"]["tsp/uniform20"], **changes}
    return agent_file(tasks={"tsp/uniform20": {k: v for k, v in task.items() if v is not None}})


@pytest.mark.parametrize("key", ["name", "kind", "source", "rules_source", "license", "decimals"])
def test_provenance_is_mandatory(read: Callable[..., Any], key: str) -> None:
    content = agent_file()
    del content[key]
    with pytest.raises(DataError, match=f"toy.json: {key}"):
        read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (agent_file(source=" "), "an empty text, expected words in each of name, kind, source"),
        (agent_file(license=""), "an empty text"),
        (agent_file(references="nobody"), "references 'nobody', expected one of atari-human"),
        (with_group(environment=None), "environment"),
        (with_group(protocol=" "), "group tsp: empty rules"),
        (with_group(comparable=False), "a reason exactly where it does not compare"),
        (with_group(why_not="no"), "a reason exactly where it does not compare"),
        (with_group(expert=None), "no returns for 0 and 1, which a comparison needs"),
        (with_group(expert=0), "no returns for 0 and 1"),
        (with_group(count=0), "count 0 are no measurement"),
        (with_task(std=None), "expected mean and std, or at least two values"),
        (with_task(values=[1.0]), "at least two values"),
        (with_task(std=-1.0), "are no measurement"),
        (with_task(mean=float("nan")), "are no measurement"),
        (with_task(group="other"), "group 'other', expected one of tsp"),
        (with_task(mean="5"), "mean is"),
    ],
)
def test_what_is_refused(read: Callable[..., Any], content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(content)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text("{")
    with pytest.raises(DataError, match=r"toy.json: no results of an agent"):
        read_agent("toy", tmp_path)
    assert FOLDER.is_dir()
