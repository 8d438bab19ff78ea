"""What built-in tasks are to do, in words."""

from __future__ import annotations

from collections import defaultdict

from db1.suites import parse_task_id, task_ids
from db1.suites.task_words import TASK_WORDS


def test_words_belong_to_tasks_and_tell_them_apart() -> None:
    assert set(TASK_WORDS) <= set(task_ids())
    tasks = defaultdict(set)
    for task, words in TASK_WORDS.items():
        assert words == words.lower().strip() and 2 <= len(words.split()) <= 14, task
        tasks[task.split("/")[0], words].add(task.replace("Dense", ""))
    shared = {words: names for words, names in tasks.items() if len(names) > 1}
    assert not shared, "only rewards may differ between tasks of the same words"


def test_a_suite_speaks_them_and_else_the_name() -> None:
    for task, words in {
        "metaworld/door-close-v3": "close the door",
        "robotics/PointMaze_UMazeDense-v3": "go to the goal of the u-shaped maze",
        "tsp/tsp100-7": "tsp tsp100 7",
    }.items():
        suite, name = parse_task_id(task)
        assert suite.words(name) == words
