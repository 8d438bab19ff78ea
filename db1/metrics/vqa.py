"""VQA accuracy: how many of the people asked gave the answer.

    accuracy = mean over the people left out, one at a time, of min(matches among the others / 3, 1)

    official   texts are normalised only where the people's answers are not all the same, so that
               "Yes" against ten times "yes" counts as wrong
    evalai     texts are always normalised (as the evaluation server does)

Source: Antol et al. 2015, section 3; the evaluation code of VQA v2 and of EvalAI.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError, check_one_of

MODES = ("official", "evalai")

_PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32
"""The official code hands a flag of value 32 to `sub` as its count."""
_COMMA_IN_NUMBER = re.compile(r"\d,+\d")
_OFFICIAL_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_ARTICLES = ("a", "an", "the")
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = MappingProxyType(
    {"none": "0"} | {word: str(i) for i, word in enumerate(_NUMBER_WORDS.split())}
)
_SPELLINGS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't "
    "mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've "
    "should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've "
    "someone'll someone's something'd something'd've something'll that's there'd there'd've "
    "there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't "
    "what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's "
    "who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've "
    "you'd you'd've you'll you're you've"
)


def _contractions() -> Mapping[str, str]:
    """Each spelling with one of its apostrophes left out -> the spelling.

    The official table has one entry the other way round, which is kept.
    """
    table = {"somebody'd": "somebodyd"}
    for right in _SPELLINGS.split():
        for place in (i for i, character in enumerate(right) if character == "'"):
            table[right[:place] + right[place + 1 :]] = right
    return MappingProxyType(table)


_CONTRACTIONS = _contractions()


@dataclass(frozen=True, kw_only=True)
class VqaScores:
    """Accuracies of a set of answers, in percent.

    Args:
        accuracy: Mean over the questions.
        by_type: Mean by type of answer or question, where types were given.
        items: float64 (num_questions,).
    """

    accuracy: float
    by_type: Mapping[str, float]
    items: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TypedAccuracy:
    """Accuracy in percent, overall and by type.

    Args:
        accuracy: Over all questions.
        by_question_type: By type of question.
        by_answer_type: By type of answer.
        counts: Questions of each type, of question and of answer.
        items: float64 (num_questions,).
    """

    accuracy: float
    by_question_type: Mapping[str, float]
    by_answer_type: Mapping[str, float]
    counts: Mapping[str, Mapping[str, int]]
    items: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The numbers, rounded, for results.json and reports."""
        return {
            "accuracy": round(self.accuracy, 6),
            "by_question_type": {k: round(v, 6) for k, v in self.by_question_type.items()},
            "by_answer_type": {k: round(v, 6) for k, v in self.by_answer_type.items()},
            "counts": {name: dict(group) for name, group in self.counts.items()},
        }


def score_answers(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    mode: str = "official",
    types: Sequence[str] = (),
) -> VqaScores:
    """Scores answers to questions.

    Args:
        predictions: The model's answer to each question.
        answers: What people answered (ten each in VQA v2); the accuracy of a single answer is
            whether it is the same.
        mode: `official` or `evalai`.
        types: Type of each question, for accuracies by type; empty: none.

    Raises:
        ConfigError: An unknown mode.
        DataError: No question, other numbers of answers or types, or a question without answers.
    """
    if not predictions or len(predictions) != len(answers):
        raise DataError(
            f"vqa: {len(predictions)} predictions, answers to {len(answers)} questions; expected "
            "as many, at least one"
        )
    if types and len(types) != len(predictions):
        raise DataError(f"vqa: {len(types)} types for {len(predictions)} questions")
    items = np.array([vqa_accuracy(p, a, mode) for p, a in zip(predictions, answers, strict=True)])
    by_type: dict[str, float] = {}
    for name in sorted(set(types)):
        by_type[name] = float(items[np.array([kind == name for kind in types])].mean())
    return VqaScores(accuracy=float(items.mean()), by_type=by_type, items=items)


def typed_accuracy(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    question_types: Sequence[str],
    answer_types: Sequence[str],
    mode: str,
) -> TypedAccuracy:
    """Scores answers by both types; arguments and errors as `score_answers`."""
    by_question = score_answers(predictions, answers, mode, question_types)
    by_answer = score_answers(predictions, answers, mode, answer_types)
    counts = {"question_type": Counter(question_types), "answer_type": Counter(answer_types)}
    return TypedAccuracy(
        accuracy=by_question.accuracy,
        by_question_type=by_question.by_type,
        by_answer_type=by_answer.by_type,
        counts={name: dict(sorted(c.items())) for name, c in counts.items()},
        items=by_question.items,
    )


def vqa_accuracy(prediction: str, answers: Sequence[str], mode: str = "official") -> float:
    """Accuracy of one answer in percent; see `score_answers`."""
    check_one_of("mode", mode, MODES)
    if not answers:
        raise DataError("vqa: a question without answers cannot be scored")
    given, said = _flat(prediction), [_flat(answer) for answer in answers]
    if mode == "evalai":
        given, said = _evalai(given), [_evalai(answer) for answer in said]
    elif len(set(said)) > 1:
        given, said = normalize_answer(given), [normalize_answer(answer) for answer in said]
    if len(said) == 1:
        return 100.0 * (given == said[0])
    matches = said.count(given)
    of_others = [min((matches - (answer == given)) / 3, 1.0) for answer in said]
    return 100.0 * sum(of_others) / len(said)


def normalize_answer(text: str) -> str:
    """Punctuation, number words, articles and contractions, as the official evaluation does."""
    return _words(_without_punctuation(text, _OFFICIAL_COMMA_IN_NUMBER))


def _evalai(text: str) -> str:
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return _words(_without_punctuation(text, _COMMA_IN_NUMBER))


def _flat(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str, comma: re.Pattern[str]) -> str:
    """A sign beside a space, or any sign where a number has a comma, goes; others become spaces."""
    has_comma = comma.search(text) is not None
    cleaned = text
    for sign in _PUNCTUATION:
        is_beside_space = f"{sign} " in text or f" {sign}" in text
        cleaned = cleaned.replace(sign, "" if is_beside_space or has_comma else " ")
    return _PERIOD.sub("", cleaned, count=_MAX_PERIODS)


def _words(text: str) -> str:
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
