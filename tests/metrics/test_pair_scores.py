"""Baselines that do not look, types of questions, and which pairs are scored."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from db1.data.pair_config import PairData
from db1.errors import ConfigError, DataError
from db1.evaluation.settings import EvaluationConfig
from db1.metrics.annotations import joined_ids, read_answers, read_captions
from db1.metrics.pair_scores import data_uri, usual_caption
from db1.metrics.pair_scoring import PairScoring
from db1.metrics.pair_selection import pair_id, scored_pairs, spread, whole_store
from db1.metrics.question_types import (
    MostFrequentAnswers,
    answer_type_of,
    most_frequent,
    question_type_of,
    whole_question,
)
from db1.metrics.vqa import typed_accuracy
from db1.store.pairs import Pair, PairHeader, PairWriter


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (16, 16), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write_store(path: Path, pairs: list[Pair], kind: str) -> Path:
    with PairWriter(path, PairHeader(name="toy", split=path.name, kind=kind)) as writer:
        for number, pair in enumerate(pairs):
            writer.append(pair, png(number))
    return path


def ask(question: str, *answers: str, **metadata: object) -> Pair:
    return Pair(image_name=question, question=question, texts=answers, metadata=metadata)


def name(text: str, number: int = 0, **metadata: object) -> Pair:
    return Pair(image_name=f"{text}{number}", texts=(text,), metadata=metadata)


def test_types_come_with_the_set_or_from_the_words() -> None:
    assert question_type_of(ask("How many dogs are there?")) == "how many"
    assert question_type_of(ask("How many?", question_type="how many people")) == "how many people"
    assert [answer_type_of(a) for a in (["Yes"], ["2", "2", "no"], ["1,000"], ["red"])] == [
        "yes/no", "number", "number", "other",
    ]  # fmt: skip


def test_the_most_frequent_answer_of_each_type() -> None:
    usual = MostFrequentAnswers.of(
        [ask("is it red?", "no"), ask("is it a cat?", "no"), ask("is it big?", "yes"),
         ask("what color is it?", "red"), ask("what color?", "blue")]
    )  # fmt: skip
    assert usual.answer("is it") == "no" and usual.answer("what color") == "blue"
    assert usual.answer("who is") == "no"
    exact = MostFrequentAnswers.of(
        [ask("is it  Red?", "yes"), ask("is it big?", "no")], whole_question
    )
    assert exact.by_type == {"is it red?": "yes", "is it big?": "no"}
    assert most_frequent(["b", "a", "c", "b", " "], 2) == ["b", "a"]
    with pytest.raises(DataError, match="no training answer"):
        MostFrequentAnswers.of([ask("why?")])


def test_the_usual_caption() -> None:
    assert usual_caption(["a cat", "a dog", "a dog"]) == "a dog"
    assert usual_caption(["red cat", "old hat", "red dog", "the red ball"]) == "red cat"


def test_accuracy_by_both_types() -> None:
    scores = typed_accuracy(
        ["yes", "2", "red"], [["yes"], ["3"], ["red"]], ["is", "how", "what"],
        ["yes/no", "number", "other"], "official",
    )  # fmt: skip
    assert scores.accuracy == pytest.approx(200 / 3)
    assert scores.to_dict()["by_answer_type"] == {"number": 0, "other": 100, "yes/no": 100}
    assert scores.counts["question_type"] == {"how": 1, "is": 1, "what": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set with the splits train, val and test."""
    for split, count in (("train", 20), ("val", 4), ("test", 6)):
        texts = [name(f"{split} {n}", image_id=100 + n) for n in range(count)]
        write_store(tmp_path / split, texts, "caption")
    return tmp_path


def test_scored_pairs_were_never_learned(folder: Path) -> None:
    def texts(data: PairData, **options: object) -> tuple[str, list[str]]:
        found = scored_pairs(folder, data, heldout_share=0.1, **options)
        places = [found.place(i) for i in range(len(found))]
        return found.split, [store.pair(number).texts[0] for store, number in places]

    plain = PairData()
    assert texts(plain)[1] == [f"test {n}" for n in range(6)]
    assert texts(plain, limit=3)[1] == ["test 0", "test 2", "test 4"]
    assert texts(PairData(heldout_split="val"), split="val")[0] == "val"
    learned = PairData(train_splits=("train", "test"), heldout_split="val")
    assert texts(learned)[1] == [f"val {n}" for n in range(4)]
    both = PairData(train_splits=("train", "test"))
    assert texts(both) == ("held-out images of train, test", ["train 18", "train 19", "test 5"])
    with pytest.raises(ConfigError, match=r"learned from the split 'train', choose.*'test', 'val'"):
        texts(plain, split="train")
    with pytest.raises(DataError, match="no store of images with texts"):
        texts(plain, split="dev")


def test_ids_are_the_sets_own(folder: Path) -> None:
    pairs = whole_store(folder / "val")
    assert [pair_id(s.pair(n), n, "image_id") for s, n in map(pairs.place, range(4))] == [
        100, 101, 102, 103,
    ]  # fmt: skip
    assert pair_id(name("a"), 7, "image_id") == 7
    assert read_captions(folder / "val")[103] == ("val 3",)
    assert spread(10, None).tolist() == list(range(10)) and spread(10, 4).tolist() == [0, 2, 5, 7]


def test_annotations_of_a_store_and_broken_ones(tmp_path: Path) -> None:
    store = write_store(tmp_path / "val", [ask("is it?", "yes", "", "no"), ask("why?")], "question")
    assert read_answers(store)[0].answers == ("yes", "", "no") and set(read_answers(store)) == {0}
    with pytest.raises(DataError, match="a store of kind 'question', expected 'caption'"):
        read_captions(store)
    file = tmp_path / "captions.json"
    for content, words in (
        ({"images": []}, "no image of split 'test'"),
        ({"annotations": []}, 'no list "images"'),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]}, "image id 2"),
        ({"images": [{"id": "1"}], "annotations": []}, "'id' is '1', expected int"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            read_captions(file)
    with pytest.raises(DataError, match=r"4 q\(s\) that.*: 5, 6, 7, \.\.\."):
        joined_ids({1: "a"}, dict.fromkeys([1, 5, 6, 7, 8], "a"), "q", partial=True)
    assert joined_ids({2: "a", 1: "b"}, {1: "c"}, "q", partial=True) == [1]


def test_settings_are_checked() -> None:
    for arguments, words in (
        ({"max_captions": 0}, "max_captions"),
        ({"closed_answers": -1}, "closed_answers"),
        ({"vqa_mode": "offical"}, "did you mean 'official'"),
        ({"tokenizer": "ptp"}, "did you mean 'ptb'"),
        ({"beams": 0}, "beams: got 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            PairScoring(**arguments)


def test_settings_of_results_are_read_back() -> None:
    config = EvaluationConfig(pairs=PairScoring(beams=2, max_captions=5))
    assert EvaluationConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert EvaluationConfig(**asdict(EvaluationConfig(pairs=None))).pairs is None


def test_examples_are_small() -> None:
    assert len(data_uri(np.zeros((512, 384, 3), dtype=np.uint8))) < 2_000
