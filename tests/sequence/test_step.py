"""A step becomes the ids that the design draws, and actions come back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db1.errors import DataError
from db1.sequence.step import StepCodec, stack_observations
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, VocabularyConfig

VOCABULARY = Vocabulary(VocabularyConfig(text_size=300))
EVERY_KIND = StepSpec(
    observation={
        "zeta": FieldSpec(kind="discrete", shape=(2,), num_values=5),
        "alpha": FieldSpec(kind="continuous", shape=(3,)),
        "eye": FieldSpec(kind="image", shape=(16, 32, 3)),
        "mission": FieldSpec(kind="text"),
    },
    action=FieldSpec(kind="continuous", shape=(2,)),
)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(["go to the red ball", "go to the box"] * 5, 300)


def _observation() -> dict[str, object]:
    return {
        "zeta": np.array([4, 0]),
        "alpha": np.array([0.0, 1.0, -256.0], np.float32),
        "eye": np.arange(16 * 32 * 3, dtype=np.uint32).reshape(16, 32, 3).astype(np.uint8),
        "mission": "go to the box",
    }


def test_one_step_is_drawn_as_in_the_design(tokenizer: TextTokenizer) -> None:
    codec = StepCodec(EVERY_KIND, VOCABULARY, tokenizer)
    (step,) = codec.encode_observations(stack_observations([_observation()]))
    text = tokenizer.encode("go to the box").tolist()
    squashed = codec.scalar.encode_observation(np.array([0.0, 1.0, -256.0]))
    expected = [
        *text,
        *[IMAGE_PLACEHOLDER] * 2,
        *VOCABULARY.bin_ids(squashed).tolist(),
        *VOCABULARY.discrete_ids(np.array([4, 0])).tolist(),
        VOCABULARY.separator,
    ]
    assert step.ids.tolist() == expected
    assert step.local_positions.tolist() == list(range(1, len(expected) + 1))
    assert len(step.images) == 1 and step.images[0].shape == (16, 32, 3)
    assert codec.min_step_tokens == len(expected) - len(text) + 2


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2))
def test_continuous_actions_invert_within_a_bin(values: list[float]) -> None:
    spec = StepSpec(observation={"x": FieldSpec(kind="continuous")}, action=EVERY_KIND.action)
    codec = StepCodec(spec, VOCABULARY)
    action = np.array([values], np.float32)
    ids = codec.encode_actions(action)
    assert set(ids.ravel().tolist()) <= set(codec.action_ids)
    assert np.abs(codec.decode_action(ids) - action).max() <= 2 / 1024 + 1e-6


@given(st.integers(1, 1024), st.data())
def test_discrete_actions_invert(num_values: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, num_values - 1))
    spec = StepSpec(
        observation={"x": FieldSpec(kind="continuous")},
        action=FieldSpec(kind="discrete", num_values=num_values),
    )
    codec = StepCodec(spec, VOCABULARY)
    ids = codec.encode_actions(np.array([value]))
    assert ids[0, 0] in codec.action_ids and codec.decode_action(ids).tolist() == [value]


def test_bad_values_are_refused(tokenizer: TextTokenizer) -> None:
    codec = StepCodec(EVERY_KIND, VOCABULARY, tokenizer)
    bad = {**_observation(), "zeta": np.array([5, 0])}
    with pytest.raises(DataError, match=r"zeta: value 5, expected 0\.\.4"):
        codec.encode_observations(stack_observations([bad]))
    nan = {**_observation(), "alpha": np.array([0, np.nan, 0], np.float32)}
    with pytest.raises(DataError, match="alpha.*not finite"):
        codec.encode_observations(stack_observations([nan]))
    wordy = {**_observation(), "mission": "red " * 2000}
    with pytest.raises(DataError, match="expected at most 512"):
        codec.encode_observations(stack_observations([wordy]))
    with pytest.raises(DataError, match="tokenizer"):
        StepCodec(EVERY_KIND, VOCABULARY, None)


def test_action_mask_comes_from_its_field() -> None:
    spec = StepSpec(
        observation={"free": FieldSpec(kind="discrete", shape=(3,), num_values=2)},
        action=FieldSpec(kind="discrete", num_values=3),
        action_mask="free",
    )
    codec = StepCodec(spec, VOCABULARY)
    mask = codec.allowed_action_mask({"free": np.array([[1, 0, 1]])})
    assert mask is not None and mask.tolist() == [[True, False, True]]


def test_codec_pickles(tokenizer: TextTokenizer) -> None:
    codec = pickle.loads(pickle.dumps(StepCodec(EVERY_KIND, VOCABULARY, tokenizer)))
    assert len(codec.encode_observations(stack_observations([_observation()]))) == 1
