"""Named splits hold tasks that db1 has."""

from __future__ import annotations

import pytest

from db1.errors import ConfigError
from db1.splits import SPLITS, split_tasks, splits_of, tasks_of_splits
from db1.suites import task_ids
from db1.suites.listing import choose_tasks, task_rows


@pytest.mark.parametrize("name", SPLITS)
def test_every_task_of_a_split_exists_once(name: str) -> None:
    tasks = split_tasks(name)
    assert len(set(tasks)) == len(tasks) and set(tasks) <= set(task_ids())


def test_sizes_and_lookup() -> None:
    assert {name: len(tasks) for name, tasks in SPLITS.items()} == {
        "ml45-test": 5,
        "regent-12": 12,
        "vintix-test": 5,
        "babyai-unseen": 5,
    }
    assert splits_of("atari/Pong") == ("regent-12",) and splits_of("tsp/uniform20") == ()
    assert tasks_of_splits(["regent-12", "ml45-test"])["metaworld/door-lock-v3"] == "regent-12"
    with pytest.raises(ConfigError, match="expected one of ml45-test, regent-12"):
        split_tasks("ml10")


def test_tasks_are_listed_and_chosen_by_split() -> None:
    rows = task_rows(["metaworld", "tsp"], splits=["ml45-test"])
    assert [row.id for row in rows] == sorted(split_tasks("ml45-test"))
    assert rows[0].to_dict()["splits"] == ["ml45-test", "regent-12", "vintix-test"]
    assert choose_tasks(["tsp/uniform20"], None, ["ml45-test"]) == [
        "tsp/uniform20",
        *split_tasks("ml45-test"),
    ]
