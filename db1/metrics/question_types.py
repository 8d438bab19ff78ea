"""Types of questions and answers, and what is answered most often to each type.

VQA v2 brings both types. For a set without them the type of a question is its first two words, and
that of an answer follows from what most people said, as VQA has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from db1.errors import DataError
from db1.store.pairs import Pair

YES_NO, NUMBER, OTHER = "yes/no", "number", "other"
_FIRST_WORDS = 2


def question_type_of(pair: Pair) -> str:
    """The type of a pair's question."""
    given = pair.metadata.get("question_type")
    if given:
        return str(given)
    words = [word.strip("?!.,;:") for word in (pair.question or "").lower().split()]
    return " ".join(words[:_FIRST_WORDS])


def whole_question(pair: Pair) -> str:
    """The words of a pair's question."""
    return " ".join((pair.question or "").lower().split())


def answer_type_of(answers: Iterable[str]) -> str:
    """`yes/no`, `number` or `other`: the type of the most frequent answer."""
    answer = Counter(text.strip().lower() for text in answers).most_common(1)[0][0]
    if answer in ("yes", "no"):
        return YES_NO
    return NUMBER if answer.replace(",", "").replace(".", "").isdigit() else OTHER


@dataclass(frozen=True, kw_only=True)
class MostFrequentAnswers:
    """A baseline that does not look: the most frequent training answer to the question's type.

    Args:
        by_type: Answer by type of question, or by whole question.
        overall: Answer to any other.
    """

    by_type: Mapping[str, str]
    overall: str

    @classmethod
    def of(
        cls, pairs: Iterable[Pair], key: Callable[[Pair], str] = question_type_of
    ) -> MostFrequentAnswers:
        """Counts the answers of training pairs.

        Args:
            pairs: Of questions.
            key: What answers are counted by.

        Raises:
            DataError: Not a single answer.
        """
        counts: dict[str, Counter[str]] = {}
        for pair in pairs:
            texts = [text.strip() for text in pair.texts if text.strip()]
            counts.setdefault(key(pair), Counter()).update(texts)
        total = sum(counts.values(), Counter())
        if not total:
            raise DataError("no training answer to count")
        by_type = {kind: _first(counter) for kind, counter in counts.items() if counter}
        return cls(by_type=by_type, overall=_first(total))

    def answer(self, question_type: str) -> str:
        """The answer."""
        return self.by_type.get(question_type, self.overall)


def most_frequent(texts: Iterable[str], limit: int) -> list[str]:
    """The `limit` most frequent texts, ties in alphabetical order."""
    counts = Counter(text.strip() for text in texts if text.strip())
    return sorted(counts, key=lambda text: (-counts[text], text))[:limit]


def _first(counts: Counter[str]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))
