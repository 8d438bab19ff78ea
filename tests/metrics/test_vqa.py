"""VQA accuracy in both modes, with the quirks of the official evaluation."""

from __future__ import annotations

import pytest

from db1.errors import ConfigError, DataError
from db1.metrics.vqa import normalize_answer, score_answers, vqa_accuracy

RECORDED = [
    ("Yes", ["yes"] * 10),
    ("a cat", ["cat"] * 10),
    ("two", ["2"] * 3 + ["two"] * 2 + ["3"] * 5),
]


@pytest.mark.parametrize(("mode", "expected"), [("official", (0, 0, 100)), ("evalai", (100,) * 3)])
def test_recorded_cases(mode: str, expected: tuple[int, ...]) -> None:
    assert tuple(vqa_accuracy(*case, mode) for case in RECORDED) == expected


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100)])
def test_one_of_ten_people_is_left_out_at_a_time(matches: int, accuracy: float) -> None:
    answers = ["red"] * matches + ["blue"] * (10 - matches)
    assert vqa_accuracy("red", answers) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("yall'd've", "y'all'd've"),
        ("twas", "'twas"),
        ("lets", "lets"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("1,000", "1000"),
        ("1,000-5", "10005"),
        ("3.5 m.", "3.5 m"),
        ("yes!", "yes"),
        ("t-shirt", "t shirt"),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_a_single_answer_is_right_or_wrong() -> None:
    scores = score_answers(["red", "no", "yes"], [["red"], ["yes"], ["yes"]], types=["c", "b", "b"])
    assert scores.items.tolist() == [100, 0, 100]
    assert scores.accuracy == pytest.approx(200 / 3)
    assert scores.by_type == {"b": 50.0, "c": 100.0}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="mode: got 'offical'.*did you mean 'official'"):
        vqa_accuracy("a", ["b"], "offical")
    with pytest.raises(DataError, match="without answers"):
        vqa_accuracy("a", [])
    with pytest.raises(DataError, match="1 predictions, answers to 2"):
        score_answers(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="2 types for 1"):
        score_answers(["a"], [["a"]], types=["x", "y"])
