"""Sections `captions` and `questions` of results.json: what a run writes about held-out images.

    captions   scores, those of always giving the most frequent training caption, examples
    questions  accuracy by type, that of always giving the type's most frequent training answer, and
               that of the same question's: all that can be known without the image

Beside results.json, `captions/<set>.json` and `questions/<set>.json` have all texts in the result
formats of COCO and VQA, which `db1 score` and the official tools read.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from db1.data.pair_config import PairData
from db1.inference.image_text import ImageTextWriter
from db1.inference.load import LoadedRun
from db1.inference.pair_sets import learned_sets
from db1.metrics.annotations import IMAGE_ID, QUESTION_ID, write_result_file
from db1.metrics.caption_measures import measure_captions
from db1.metrics.captioning import tokenize_caption
from db1.metrics.pair_scoring import PairScoring
from db1.metrics.pair_selection import (
    ScoredPairs,
    pair_id,
    pairs_of,
    scored_pairs,
    spread,
    training_pairs,
)
from db1.metrics.pair_texts import seen_pixels, write_texts
from db1.metrics.question_types import (
    MostFrequentAnswers,
    answer_type_of,
    most_frequent,
    question_type_of,
    whole_question,
)
from db1.metrics.vqa import TypedAccuracy, typed_accuracy
from db1.pages import image_uri
from db1.store.pair_layout import CAPTION
from db1.store.pairs import Pair
from db1.untrusted import below

logger = logging.getLogger(__name__)

CAPTIONS, QUESTIONS = "captions", "questions"
NUM_EXAMPLES = 8
_EXAMPLE_SIDE = 128


@dataclass(frozen=True, kw_only=True)
class _Set:
    """One set while it is scored."""

    name: str
    folder: Path
    data: PairData
    pairs: ScoredPairs
    writer: ImageTextWriter
    heldout_share: float

    def texts(self) -> list[Pair]:
        """The scored pairs, without their images."""
        return pairs_of(self.pairs.selection, self.pairs.indices)

    def training_texts(self) -> list[Pair]:
        """The pairs learned from, without their images."""
        selection = training_pairs(self.folder, self.data, self.heldout_share)
        return pairs_of(selection, range(len(selection)))

    def ids(self, key: str) -> list[int]:
        """Id of each scored pair in result files."""
        places = (self.pairs.place(i) for i in range(len(self.pairs)))
        return [pair_id(store.pair(number), number, key) for store, number in places]


def score_pair_sets(
    loaded: LoadedRun,
    scoring: PairScoring,
    root: Path,
    out: Path,
    *,
    done: Mapping[str, Mapping[str, Any]],
    finished: Callable[[str, str, dict[str, Any] | Exception], None],
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Scores every set of images with texts that a run learned.

    Args:
        loaded: The run.
        scoring: What decides the scores.
        root: Folder of the data; the sets lie in its `pairs/`.
        out: Folder of results.json, for the result files.
        done: Sections as they are; sets that stand there are kept.
        finished: Called with (section, set, its entry or what was raised) after each set.
        progress: Called with (`captions/<set>` or `questions/<set>`, finished, all).
    """
    for name, data in learned_sets(loaded).items():
        section = CAPTIONS if data.kind == CAPTION else QUESTIONS
        if name in (done.get(section) or {}):
            logger.info("%s/%s: kept from an earlier evaluation", section, name)
            continue
        report = None if progress is None else partial(progress, f"{section}/{name}")
        try:
            one = _open(loaded, scoring, root / "pairs" / name, name, data)
            score = _score_captions if section == CAPTIONS else _score_questions
            finished(section, name, score(one, scoring, out, report))
        except Exception as error:  # one broken set must not cost the others
            logger.debug("traceback of %s/%s", section, name, exc_info=True)
            finished(section, name, error)


def _open(loaded: LoadedRun, scoring: PairScoring, folder: Path, name: str, data: PairData) -> _Set:
    share = float((loaded.config.get("data") or {}).get("heldout_share", 0.05))
    limit = scoring.max_captions if data.kind == CAPTION else scoring.max_questions
    pairs = scored_pairs(folder, data, heldout_share=share, split=scoring.split, limit=limit)
    writer = ImageTextWriter(loaded, data)
    return _Set(
        name=name, folder=folder, data=data, pairs=pairs, writer=writer, heldout_share=share
    )


def _score_captions(
    one: _Set, scoring: PairScoring, out: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    started = time.monotonic()
    written = write_texts(one.writer, one.pairs, scoring.captions(), progress=progress)
    references = [[t for t in pair.texts if t.strip()] for pair in one.texts()]
    options = {"tokenizer": scoring.tokenizer, "java": scoring.java}
    measured = measure_captions(written.texts, references, **options)
    usual = usual_caption([text for pair in one.training_texts() for text in pair.texts])
    baseline = measure_captions([usual] * len(references), references, **options)
    file = f"{CAPTIONS}/{one.name}.json"
    ids = one.ids(IMAGE_ID)
    write_result_file(
        below(out, file), dict(zip(ids, written.texts, strict=True)), IMAGE_ID, "caption"
    )
    cider = measured.items["CIDEr-D"]
    return {
        "split": one.pairs.split,
        "num_images": len(one.pairs),
        "scores": _rounded(measured.scores),
        "baseline": {"caption": usual, "scores": _rounded(baseline.scores)},
        "tokenizer": measured.tokenizer,
        "not_run": dict(measured.not_run),
        "distinct_captions": len(set(written.texts)),
        "results": file,
        "examples": [
            {
                "id": ids[i],
                "image": data_uri(seen_pixels(one.writer, one.pairs, i)),
                "caption": written.texts[i],
                "references": references[i],
                "CIDEr-D": round(float(cider[i]), 6),
            }
            for i in spread(len(one.pairs), NUM_EXAMPLES).tolist()
        ],
        "seconds": round(time.monotonic() - started, 3),
    }


def _score_questions(
    one: _Set, scoring: PairScoring, out: Path, progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    started = time.monotonic()
    learned = one.training_texts()
    said = [text for pair in learned for text in pair.texts]
    closed = most_frequent(said, scoring.closed_answers) if scoring.closed_answers else []
    written = write_texts(
        one.writer, one.pairs, scoring.answers(), closed=closed, progress=progress
    )
    asked = one.texts()
    usual = MostFrequentAnswers.of(learned)
    guesses = [usual.answer(question_type_of(pair)) for pair in asked]
    blind = MostFrequentAnswers.of(learned, whole_question)
    unseen = [
        blind.by_type.get(whole_question(pair), guess)
        for pair, guess in zip(asked, guesses, strict=True)
    ]
    file = f"{QUESTIONS}/{one.name}.json"
    ids = one.ids(QUESTION_ID)
    write_result_file(
        below(out, file), dict(zip(ids, written.texts, strict=True)), QUESTION_ID, "answer"
    )
    scores = score_by_type(written.texts, asked, scoring.vqa_mode)
    baseline = score_by_type(guesses, asked, scoring.vqa_mode)
    return {
        "split": one.pairs.split,
        "num_questions": len(one.pairs),
        "mode": scoring.vqa_mode,
        **scores.to_dict(),
        "baseline": baseline.to_dict() | {"answers": dict(usual.by_type)},
        "blind": score_by_type(unseen, asked, scoring.vqa_mode).to_dict(),
        "closed_answers": len(closed),
        "num_cut": written.num_cut,
        "results": file,
        "examples": [
            {
                "id": ids[i],
                "image": data_uri(seen_pixels(one.writer, one.pairs, i)),
                "question": asked[i].question,
                "answer": written.texts[i],
                "answers": list(dict.fromkeys(asked[i].texts)),
                "accuracy": round(float(scores.items[i]), 6),
            }
            for i in spread(len(one.pairs), NUM_EXAMPLES).tolist()
        ],
        "seconds": round(time.monotonic() - started, 3),
    }


def score_by_type(predictions: Sequence[str], asked: Sequence[Pair], mode: str) -> TypedAccuracy:
    """Accuracy of answers to the questions of a store."""
    answers = [pair.texts for pair in asked]
    kinds = [question_type_of(pair) for pair in asked]
    types = [str(p.metadata.get("answer_type") or answer_type_of(p.texts)) for p in asked]
    return typed_accuracy(predictions, answers, kinds, types, mode)


def usual_caption(captions: Sequence[str]) -> str:
    """The most frequent caption; of equally frequent ones that of the most frequent words."""
    counts = Counter(text.strip() for text in captions if text.strip())
    most = max(counts.values())
    words = Counter(word for text in counts.elements() for word in tokenize_caption(text))

    def typical(text: str) -> float:
        tokens = tokenize_caption(text)
        return sum(words[word] for word in tokens) / max(1, len(tokens))

    tied = [text for text, count in counts.items() if count == most]
    return min(tied, key=lambda text: (-typical(text), text))


def data_uri(pixels: np.ndarray) -> str:
    """A small picture as a data URI: PNG, sides of at most 128 pixels.

    Args:
        pixels: uint8 (H, W, 3).
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
    return image_uri(picture, "PNG", optimize=True)


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in scores.items()}
