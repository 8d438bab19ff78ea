"""Measuring random and expert returns: provenance, time limits, going on."""

from __future__ import annotations

import json

import pytest

from db1.collection.demonstrate import demonstrate
from db1.collection.measure_many import (
    MeasureRequest,
    MeasureSummary,
    _player,
    _wanted,
    measure_many,
)
from db1.collection.measurement import measure, play
from db1.errors import ConfigError, DataError
from db1.experts.planner import PlannerExpert
from db1.experts.uniform import UniformExpert
from db1.suites import SUITES, make_env, parse_task_id
from db1.suites.scores import measured_of
from db1.suites.seeds import seed_for

CART, PENDULUM = "classic_control/CartPole-v1", "classic_control/Pendulum-v1"


def measured(task, folder):
    suite, name = parse_task_id(task)
    return measured_of(task, suite.environment_version(name), folder)


def test_playing_earns_what_a_demonstration_earns():
    env = make_env(CART)
    episode = demonstrate(env, UniformExpert(), 1_000_000)
    played = play(env, UniformExpert(), 1_000_000)
    assert played.total_reward == episode.total_reward and played.length == len(episode)
    assert played.success == episode.success


def test_a_measurement_says_how_it_was_made():
    seen = []
    found = measure(make_env(CART), UniformExpert(), "uniform", 4, progress=seen.append)
    returns = [play(make_env(CART), UniformExpert(), 1_000_000 + i).total_reward for i in range(4)]
    assert found["mean"] == sum(returns) / 4 == found["length"]["mean"]
    assert (found["min"], found["max"]) == (min(returns), max(returns))
    assert found["episodes"] == 4 and found["seeds"] == [1_000_000, 1_000_003]
    assert found["policy"] == "uniform" and "limit_seconds" not in found
    assert seen == [0, 1, 2, 3, 4]


def test_time_limits_are_recorded():
    found = measure(make_env(PENDULUM), UniformExpert(), "uniform", 50, max_seconds=1e-6)
    assert found["episodes"] == 1 and found["seeds"] == [1_000_000, 1_000_000]
    assert found["limit_seconds"] == 1e-6


class NoPlan:
    def __init__(self, bad):
        self.bad = bad

    def reset(self, env, seed):
        if seed in self.bad:
            raise DataError("no plan")

    def act(self, env, observation):
        return 0


def test_given_up_seeds_are_left_out():
    seeds = [seed_for("reference", i) for i in range(4)]
    found = measure(make_env(CART), NoPlan(seeds[:2]), "gives up", 4)
    assert found["episodes"] == 2 and found["given_up"] == seeds[:2]
    with pytest.raises(DataError, match="none of 4 reference episodes.*no plan"):
        measure(make_env(CART), NoPlan(seeds), "gives up", 4)


def test_many_tasks_and_going_on(tmp_path):
    request = MeasureRequest(episodes=2, processes=2)
    seen = []
    tasks = [CART, PENDULUM, "babyai/KeyInBox"]
    report = lambda *values: seen.append(values)  # noqa: E731
    summary = measure_many(tasks, request, tmp_path, progress=report)
    assert summary.failures == {} and summary.no_expert == ["babyai/KeyInBox"]
    assert summary.measured[CART] == ["random", "expert"]
    assert summary.measured["babyai/KeyInBox"] == ["random"]
    assert [v[1:] for v in seen if v[0] == CART][-1] == (4, 4)
    found = measured(CART, tmp_path)
    assert found.expert["mean"] == 500.0 and found.expert["policy"] == "cartpole_lqr"
    assert found.wrapper == "db1.suites.classic_control.ClassicControlEnv"
    before = (tmp_path / "classic_control.json").read_text()
    again = measure_many(tasks, request, tmp_path)
    assert again.measured == {} and set(again.kept) == set(tasks)
    assert (tmp_path / "classic_control.json").read_text() == before
    more = measure_many([CART], MeasureRequest(episodes=3, policy="random"), tmp_path)
    assert more.measured == {CART: ["random"]}
    assert measured(CART, tmp_path).random["episodes"] == 3
    assert measured(CART, tmp_path).expert["episodes"] == 2


def test_a_stopped_measurement_is_kept_unless_there_is_more_time(tmp_path):
    short = MeasureRequest(episodes=30, policy="random", max_seconds=1e-6)
    assert measure_many([PENDULUM], short, tmp_path).measured
    assert measure_many([PENDULUM], short, tmp_path).kept == [PENDULUM]
    longer = MeasureRequest(episodes=3, policy="random", max_seconds=60)
    assert measure_many([PENDULUM], longer, tmp_path).measured == {PENDULUM: ["random"]}
    assert measured(PENDULUM, tmp_path).random["episodes"] == 3


def test_tasks_that_do_not_run_here_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(SUITES["babyai"], "task_missing", lambda name: "pip install something")
    request = MeasureRequest(episodes=1, policy="random")
    summary = measure_many(["babyai/GoTo", CART], request, tmp_path)
    assert summary.not_runnable == {"babyai/GoTo": "pip install something"}
    assert list(summary.measured) == [CART]
    assert "classic_control" in json.loads((tmp_path / "classic_control.json").read_text())["suite"]


@pytest.mark.parametrize(
    ("task", "policies"),
    [
        ("dmc/point_mass-easy", ("planner",)),  # its expert is a controller
        ("dmc/humanoid-stand", ("planner",)),  # it has no expert
        ("dmc/walker-walk", ()),  # the planner is its expert
        ("dmc/dog-run", ()),  # the planner cannot plan it
        ("tsp/uniform20", ()),
    ],
)
def test_the_planner_is_measured_where_it_is_not_the_expert(tmp_path, task, policies):
    if (reason := SUITES[task.partition("/")[0]].missing()) is not None:
        pytest.skip(reason)
    summary = MeasureSummary({}, [], [], {}, {})
    assert _wanted(task, MeasureRequest(policy="planner"), tmp_path, summary) == policies
    assert summary.no_expert == ([] if policies else [task])
    if policies:
        player, name = _player(task, "planner")
        assert isinstance(player, PlannerExpert) and name == "planner"


@pytest.mark.parametrize("bad", [{"policy": "best"}, {"episodes": 0}, {"max_seconds": 0.0}])
def test_impossible_requests(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        MeasureRequest(**bad)
