"""`db1 tasks`, `db1 tasks measure`, and `db1 collect --suite`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from db1.cli.prepare import is_cut, summary_lines
from db1.collection import CollectRequest
from db1.store.episodes import EpisodeStore
from db1.suites import SUITES, task_ids

CARTPOLE = "classic_control/CartPole-v1"


def test_json_of_a_suite(db1) -> None:
    status, out, err = db1("tasks", "--suite", "classic_control", "--json")
    assert status == 0, err
    rows = {row["id"]: row for row in json.loads(out)}
    assert list(rows) == task_ids("classic_control")
    row = rows[CARTPOLE]
    assert row["suite"] == "classic_control" and row["runnable"] and row["reason"] is None
    assert row["expert"] == "cartpole_lqr" and row["expert_return"] == 500.0
    assert row["references"]["measured"]["comparable"]


LISTED = set(SUITES) - {"gym"}
"""Suites that list their tasks; `gym/<id>` takes any registered id."""


def test_json_of_all_tasks(db1) -> None:
    rows = json.loads(db1("tasks", "--json")[1])
    assert len(rows) == len(task_ids()) and {row["suite"] for row in rows} == LISTED
    found = {row["id"]: row for row in rows}
    assert found["atari/Pong"]["datasets"] == [
        "minari atari/pong/expert-v0 --frames grey-max",
        "jat atari-pong",
    ]
    assert found["atari/Pong"]["references"]["atari-human"]["human"] == 14.6
    assert found["metaworld/reach-v3"]["references"]["db1"]["comparable"] is False


def test_one_line_a_task(db1) -> None:
    _, out, _ = db1("tasks", "--suite", "procgen", "--suite", "classic_control")
    lines = out.splitlines()
    assert len(lines) == 3 + len(task_ids("procgen")) + len(task_ids("classic_control"))
    (hard,) = (line for line in lines if line.endswith(" procgen/bigfish-hard"))
    assert "none: import" in hard and "32.17*" in hard
    (pole,) = (line for line in lines if line.endswith(f"  {CARTPOLE}"))
    assert "cartpole_lqr" in pole and "500" in pole


def test_counts_fit_80_columns(db1) -> None:
    command = ("tasks", "--suite", "classic_control", "--suite", "tsp", "--counts")
    _, out, _ = db1(*command, columns=80)
    assert "classic_control" in out and CARTPOLE not in out and "total" in out
    assert max(map(len, out.splitlines())) <= 80


def test_details_of_one_task(db1) -> None:
    status, out, err = db1("tasks", "procgen/bigfish-hard", CARTPOLE)
    assert status == 0, err
    assert "db1" in out and "0 to 32.17" in out and "none offline" in out
    assert "1.00 of the most possible" in out
    (row,) = json.loads(db1("tasks", "show", CARTPOLE, "--json")[1])
    assert row["id"] == CARTPOLE and row["references"]["measured"]["comparable"]
    assert db1("tasks", "classic_control")[1] == db1("tasks", "--suite", "classic_control")[1]
    status, _, err = db1("tasks", "metaworld/reach")
    assert status == 2 and "reach-v3" in err and len(err.splitlines()) == 1


def test_details_show_published_agents_with_their_source(db1) -> None:
    _, out, _ = db1("tasks", "babyai/GoTo", "metaworld/door-lock-v3")
    compared, other = out.split("metaworld/door-lock-v3\n")
    assert "JAT          0.78 +- 0.28, score 0.83 (0 is 0.1305, 1 is 0.917)\n" in compared
    assert "arXiv:2402.09844" in compared and "(Apache-2.0)" in compared and "rules: " in compared
    assert "JAT*         678.98 +- 195" in other and "; measured on Meta-World v2" in other
    assert "Vintix*      356.51 +- 249, score 0.35, a task that it did not learn;" in other
    (row,) = json.loads(db1("tasks", "show", "dmc/walker-run", "--json")[1])
    found = row["agents"]["tdmpc2"]
    assert found["comparable"] and found["license"] == "MIT" and found["count"] == 3
    _, out, _ = db1("tasks", CARTPOLE)
    assert "other agents" not in out


def test_counts(db1) -> None:
    counts = json.loads(db1("tasks", "--counts", "--json")[1])
    assert set(counts) == {*LISTED, "total"}
    assert counts["metaworld"]["listed"] == counts["metaworld"]["expert"] == 50
    assert counts["total"]["listed"] == len(task_ids())
    assert counts["atari"]["references"] >= 57


def test_demonstrations_that_are_cut_off_have_no_score() -> None:
    def cut(task: str, max_steps: int | None) -> bool:
        return is_cut(task, CollectRequest(episodes=1, max_steps=max_steps))

    assert cut(CARTPOLE, 200) and not cut(CARTPOLE, 500) and not cut(CARTPOLE, None)
    assert cut("babyai/GoTo", 1000)  # its horizon differs by episode


def test_collections_are_summed_up_by_suite() -> None:
    def summary(task, success, given_up=()):
        return SimpleNamespace(task=task, episodes=10, success_rate=success, given_up=given_up)

    lines = summary_lines(
        [
            summary("babyai/GoTo", 1.0),
            summary("tsp/uniform20", None),
            summary("babyai/Open", 0.7, (3, 9)),
        ]
    )
    assert lines == [
        "babyai: 2 tasks, 20 episodes; mean success 0.850 of 2 tasks, least 0.70 in babyai/Open; "
        "seeds left out now: babyai/Open 2",
        "tsp: 1 tasks, 10 episodes",
    ]


def test_planner_and_standing_in_the_listing(db1) -> None:
    for name in ("dmc", "babyai"):
        if (reason := SUITES[name].missing()) is not None:
            pytest.skip(reason)
    rows = {row["id"]: row for row in json.loads(db1("tasks", "--suite", "dmc", "--json")[1])}
    assert rows["dmc/cartpole-balance"]["standing"]["reached"]
    assert rows["dmc/dog-run"]["standing"] is None
    counts = json.loads(db1("tasks", "--suite", "babyai", "--counts", "--json")[1])
    assert counts["total"]["reached"] >= 90
    _, out, _ = db1("tasks", "babyai/GoToRedBallGrey")
    assert "success 1.00" in out and "go to" in out


def test_unknown_suites_and_tasks(db1, tmp_path: Path) -> None:
    for arguments in (
        ("tasks", "--suite", "metawrld"),
        ("tasks", "measure", "--suite", "metawrld", "--out", tmp_path / "x"),
        ("collect", "--suite", "metawrld", "--out", tmp_path / "x"),
    ):
        status, _, err = db1(*arguments)
        assert status == 2 and "did you mean 'metaworld'" in err
    status, _, err = db1("tasks", "measure", "babyai/GoToLocl", "--out", tmp_path / "x")
    assert status == 2 and "GoToLocal" in err
    assert not (tmp_path / "x").exists()


def test_measure(db1, tmp_path: Path) -> None:
    arguments = ("tasks", "measure", CARTPOLE, "--episodes", 2, "--processes", 1)
    status, out, err = db1(*arguments, "--out", tmp_path)
    assert status == 0, err
    assert CARTPOLE in out and "500" in out and "1 tasks measured, 0 measured before" in out
    content = json.loads((tmp_path / "classic_control.json").read_text())
    assert content["tasks"][CARTPOLE][0]["expert"]["episodes"] == 2
    assert "0 tasks measured, 1 measured before" in db1(*arguments, "--out", tmp_path)[1]


def test_measuring_a_task_that_does_not_run_here(db1, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(SUITES["babyai"], "task_missing", lambda name: "pip install minigrid")
    arguments = ("tasks", "measure", "babyai/GoTo", CARTPOLE, "--episodes", 1, "--out", tmp_path)
    status, _, err = db1(*arguments)
    assert status == 2 and "babyai/GoTo: pip install minigrid" in err
    assert (tmp_path / "classic_control.json").exists()


def test_collecting_a_suite(db1, tmp_path: Path, monkeypatch) -> None:
    suite = SUITES["classic_control"]
    monkeypatch.setattr(suite, "task_names", lambda: ["CartPole-v1", "Pendulum-v1"])
    monkeypatch.setattr(
        suite, "task_missing", lambda name: "no pendulum here" if name[0] == "P" else None
    )
    size = ("--episodes", 1, "--reference-episodes", 1, "--processes", 1, "--out", tmp_path)
    status, out, err = db1("collect", "--suite", "classic_control", *size)
    assert status == 0, err
    assert "1 of 2 tasks have an expert and run here" in out and "no pendulum here" in out
    assert "100 %" in out and "classic_control: 1 tasks, 1 episodes" in out
    assert EpisodeStore(tmp_path / CARTPOLE).num_episodes == 1
    status, _, err = db1("collect", CARTPOLE, "classic_control/Pendulum-v1", *size)
    assert status == 2 and "1 of 2 tasks failed" in err and "no pendulum here" in err


@pytest.mark.parametrize("arguments", [("collect",), ("collect", "--suite", "vizdoom")])
def test_nothing_to_collect(db1, tmp_path: Path, arguments: tuple, monkeypatch) -> None:
    monkeypatch.setattr(SUITES["vizdoom"], "expert_name", lambda name: None)
    monkeypatch.chdir(tmp_path)
    status, _, err = db1(*arguments)
    assert status == 2 and ("task ids" in err or "has an expert and runs here" in err)
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_suites(db1) -> None:
    status, out, _ = db1("doctor")
    assert status == 0 and all(f"suite {name}" in out for name in SUITES)
