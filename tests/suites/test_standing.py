"""The rule that says whether an expert is optimal, or comes to 80 % of the best reference."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from db1.suites import SUITES, make_env, task_ids
from db1.suites.listing import count_rows, task_rows
from db1.suites.scores import Reference, Standing, standing_of
from db1.suites.scores.standing import BOUNDS, RULES, largest_return

TASK, EXPERT = "metaworld/reach-v3", "somebody"


def reference(name, expert, *, random=0.0, comparable=True, **measurement):
    details = {"expert": {"policy": EXPERT, "episodes": 10} | measurement}
    return Reference(
        name=name,
        random=random,
        expert=expert,
        environment="here",
        comparable=comparable,
        source="a test",
        details=details,
    )


def judge(*references, task=TASK, expert=EXPERT):
    return standing_of(task, expert, {found.name: found for found in references})


def test_success_in_every_episode_reaches() -> None:
    found = judge(reference("measured", 1.0, success_rate=1.0), reference("db1", 100.0))
    assert found == Standing(rule="success", value=1.0, reached=True, episodes=10)
    assert str(found) == "success 1.00"


@pytest.mark.parametrize(
    "short", [{"success_rate": 0.9}, {"episodes": 4}, {"given_up": [1_000_003]}]
)
def test_success_must_be_whole_and_measured_often_enough(short) -> None:
    found = judge(reference("measured", 1.0, **({"success_rate": 1.0} | short)))
    assert found.rule == "success" and not found.reached
    assert ("in only 4 episodes" in str(found)) == ("episodes" in short)


@pytest.mark.parametrize(("earned", "reached"), [(81.9, False), (82.0, True), (120.0, True)])
def test_the_way_from_random_to_the_reference(earned, reached) -> None:
    found = judge(
        reference("measured", earned, random=10.0), reference("db1", 100.0, random=-500.0)
    )
    assert found.rule == "published" and found.reference == "db1" and found.reached is reached
    assert found.value == pytest.approx((earned - 10.0) / 90.0)


def test_the_reference_that_asks_most_decides() -> None:
    easy, hard = reference("db1", 50.0), reference("jat", 200.0, comparable=False)
    found = judge(reference("measured", 100.0), easy, hard)
    assert (found.reference, found.value, found.reached) == ("jat", 0.5, False)
    assert str(found) == "0.50 of jat*"
    assert judge(reference("measured", 100.0), easy).reached


def test_a_reference_below_random_says_nothing() -> None:
    found = judge(reference("measured", 100.0, random=60.0), reference("db1", 50.0))
    assert found.rule is None and not found.reached and str(found) == "nothing to compare with"


def test_only_this_expert_in_this_version_counts() -> None:
    good = reference("measured", 100.0, success_rate=1.0)
    assert judge(good, expert="another") == Standing() and str(Standing()) == "not measured"
    assert not judge(reference("measured", 1.0, success_rate=1.0, comparable=False)).reached
    assert not judge(reference("db1", 1.0)).reached


def test_what_no_return_exceeds() -> None:
    found = judge(reference("measured", 80.0), task="atari/Boxing")
    assert found.rule == "bound" and found.reached and str(found) == "0.80 of the most possible"
    found = judge(reference("measured", 40.0), reference("jat", 45.0), task="atari/Boxing")
    assert found.rule == "published" and found.reached
    assert largest_return("dmc/dog-run") == 1000.0 and largest_return("atari/Pong") is None


def test_optimal_by_construction() -> None:
    regulator = reference("measured", 1.0, policy="dmc_lqr")
    assert judge(regulator, task="dmc/lqr-lqr_2_1", expert="dmc_lqr").rule == "exact"


def test_bounds_are_of_listed_tasks_and_hold() -> None:
    bounds = json.loads(BOUNDS.read_text())
    assert set(bounds) <= set(task_ids()) and all(entry["why"] for entry in bounds.values())
    for suite in {task.partition("/")[0] for task in bounds}:
        for row in task_rows([suite]):
            bound = largest_return(row.id)
            if bound is not None and row.expert_return is not None:
                assert row.expert_return <= bound + 1e-6, row.id


def test_counts_agree_with_the_rows() -> None:
    rows = task_rows(["tsp", "babyai", "dmc", "procgen"])
    counts = count_rows(rows)
    for suite in ("tsp", "babyai", "dmc", "procgen"):
        reached = [r for r in rows if r.suite == suite and r.standing and r.standing.reached]
        by_rule = Counter(row.standing.rule for row in reached)
        assert counts[suite]["reached"] == len(reached)
        assert {rule: counts[suite][f"reached_{rule}"] for rule in RULES} == {
            rule: by_rule[rule] for rule in RULES
        }


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_rows_without_an_expert_have_no_standing(suite) -> None:
    for row in task_rows([suite]):
        assert (row.standing is None) == (row.expert is None)
        assert row.expert is not None or "import" in row.describes_expert


def script(name):
    path = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bound_of_a_tour() -> None:
    bound_tours = script("bound_tours")
    rng = np.random.default_rng(0)
    cities = rng.random((7, 2))
    distances = np.linalg.norm(cities[:, None] - cities[None], axis=-1)

    def length(order):
        return sum(distances[a, b] for a, b in zip((0, *order), (*order, 0), strict=True))

    shortest = min(length(order) for order in permutations(range(1, 7)))
    bound = bound_tours.lower_bound(distances, 1.1 * shortest, 300)
    assert 0.97 * shortest <= bound <= shortest + 1e-9
    env = make_env("tsp/tsp100-0")
    env.reset(seed=1)
    assert bound_tours.lower_bound(env.unwrapped.distances, 8.0, 20) < 7.62
