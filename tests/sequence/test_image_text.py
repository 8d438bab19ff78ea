"""Captions and questions become sequences in the documented order; answering uses the same ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db1.errors import ConfigError, DataError
from db1.sequence.image_text import ImageText, ImageTextCodec, ImageTextConfig
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, VocabularyConfig

TEXTS = ["Describe the image: a red circle Question: what color? Answer: red"] * 5
TOKENIZER = TextTokenizer.train(TEXTS, 300)
VOCABULARY = Vocabulary(VocabularyConfig(text_size=300))
CODEC = ImageTextCodec(VOCABULARY, TOKENIZER)
IMAGE = np.zeros((32, 48, 3), dtype=np.uint8)
CAPTION = ImageText(image=IMAGE, text="a red circle")
QUESTION = ImageText(image=IMAGE, text="red", question="what color?")


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text).tolist()


def test_a_caption_lies_behind_prompt_and_image() -> None:
    sample = CODEC.encode([CAPTION], 60, "toy")
    expected = [
        *ids("Describe the image:"),
        *[IMAGE_PLACEHOLDER] * 6,
        *ids(" a red circle"),
        TOKENIZER.end_of_text,
    ]
    assert sample.ids.tolist() == expected + [VOCABULARY.separator] * (61 - len(expected))
    targets = np.flatnonzero(sample.target_mask)
    assert sample.ids[targets].tolist() == [*ids(" a red circle"), TOKENIZER.end_of_text]
    assert (sample.local_positions == NO_LOCAL_POSITION).all()
    assert sample.ids.dtype == np.int32 and len(sample.images) == 1


def test_a_question_lies_between_image_and_answer() -> None:
    sample = CODEC.encode([QUESTION], 60, "toy")
    expected = [
        *ids("Describe the image:"),
        *[IMAGE_PLACEHOLDER] * 6,
        *ids(" Question:"),
        *ids(" what color?"),
        *ids(" Answer:"),
        *ids(" red"),
        TOKENIZER.end_of_text,
    ]
    assert sample.ids.tolist()[: len(expected)] == expected
    assert sample.ids[sample.target_mask].tolist() == [*ids(" red"), TOKENIZER.end_of_text]


@pytest.mark.parametrize("item", [CAPTION, QUESTION])
def test_what_is_read_when_answering_is_what_training_puts_before_the_answer(
    item: ImageText,
) -> None:
    sample = CODEC.encode([item], 60, "toy")
    prompt = CODEC.encode_prompt(item.image, item.question)
    first_target = int(np.argmax(sample.target_mask))
    np.testing.assert_array_equal(prompt.ids, sample.ids[:first_target])
    np.testing.assert_array_equal(prompt.local_positions, sample.local_positions[:first_target])
    assert prompt.images[0] is item.image


def test_an_item_may_bring_its_own_prompt_or_none() -> None:
    prompt = CODEC.encode_prompt(IMAGE, prompt="red circle")
    assert prompt.ids.tolist() == [*ids("red circle"), *[IMAGE_PLACEHOLDER] * 6]
    assert CODEC.encode_prompt(IMAGE, prompt="").ids.tolist() == [IMAGE_PLACEHOLDER] * 6


def test_packed_items_lie_end_to_end() -> None:
    alone = [CODEC.encode([item], 60, "toy") for item in (CAPTION, QUESTION)]
    parts = [s.ids[: CODEC.num_tokens(i)] for s, i in zip(alone, (CAPTION, QUESTION), strict=True)]
    packed = CODEC.encode([CAPTION, QUESTION], 100, "toy")
    num_tokens = sum(map(len, parts))
    np.testing.assert_array_equal(packed.ids[:num_tokens], np.concatenate(parts))
    assert (packed.ids[num_tokens:] == VOCABULARY.separator).all()
    assert packed.target_mask.sum() == sum(s.target_mask.sum() for s in alone)
    assert len(packed.images) == 2 and packed.num_cut == 0


def test_a_long_caption_is_cut_and_does_not_learn_to_stop() -> None:
    long = ImageText(image=IMAGE, text="red " * 50)
    fixed = len(ids("Describe the image:")) + 6
    encoded = CODEC.encode([long], fixed + 9, "toy")
    assert encoded.target_mask.sum() == 10
    assert encoded.target_mask[-1]
    assert TOKENIZER.end_of_text not in encoded.ids
    assert encoded.num_cut == CODEC.num_tokens(long) - fixed - 10


def test_a_long_question_is_cut_and_its_answer_kept() -> None:
    long = ImageText(image=IMAGE, text="red", question="what color? " * 30)
    sample = CODEC.encode([long], 59, "toy")
    tail = [*ids(" Answer:"), *ids(" red"), TOKENIZER.end_of_text]
    assert sample.ids.tolist()[-len(tail) :] == tail
    assert sample.target_mask.sum() == 2


def test_a_short_text_stays_whole_beside_a_long_one() -> None:
    long = ImageText(image=IMAGE, text="red " * 200)
    sample = CODEC.encode([CAPTION, long], 120, "toy")
    alone = CODEC.encode([CAPTION], 60, "toy")
    length = CODEC.num_tokens(CAPTION)
    np.testing.assert_array_equal(sample.ids[:length], alone.ids[:length])
    assert len(sample.ids) == 121 and VOCABULARY.separator not in sample.ids


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 60), st.one_of(st.none(), st.integers(1, 60))),
        min_size=1,
        max_size=4,
    ),
    room=st.integers(0, 200),
)
def test_any_items_give_a_sequence_of_the_length_asked_for(
    lengths: list[tuple[int, int | None]], room: int
) -> None:
    items = [
        ImageText(image=IMAGE, text="red " * t, question=None if q is None else "what color? " * q)
        for t, q in lengths
    ]
    length = 30 * len(items) + room
    encoded = CODEC.encode(items, length, "toy")
    sample = encoded
    assert len(sample.ids) == len(sample.target_mask) == length + 1
    assert (sample.ids == IMAGE_PLACEHOLDER).sum() == 6 * len(items)
    whole = sum(CODEC.num_tokens(item) for item in items)
    assert encoded.num_cut == max(0, whole - length - 1)
    assert not (sample.target_mask & (sample.ids == VOCABULARY.separator)).any()
    starts = np.diff(sample.target_mask.astype(int), prepend=0) == 1
    assert starts.sum() == len(items)


def test_images_that_leave_no_room_are_refused() -> None:
    CODEC.check_room(32, 48, 60)
    with pytest.raises(ConfigError, match="224 x 224 pixels takes 196 tokens.*sequence.length"):
        CODEC.check_room(224, 224, 200)
    with pytest.raises(DataError, match="more than a sequence of 11 can hold"):
        CODEC.encode([CAPTION], 10, "toy")


def test_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="float64"):
        CODEC.encode_prompt(np.zeros((32, 48, 3)))
    with pytest.raises(DataError, match="image of 30x48 pixels"):
        CODEC.encode_prompt(np.zeros((30, 48, 3), dtype=np.uint8))


def test_the_fixed_texts_are_settings() -> None:
    config = ImageTextConfig(prompt="", question_prefix="", answer_prefix="")
    codec = ImageTextCodec(VOCABULARY, TOKENIZER, config)
    prompt = codec.encode_prompt(IMAGE, "what color?")
    assert prompt.ids.tolist() == [*[IMAGE_PLACEHOLDER] * 6, *ids(" what color?")]
