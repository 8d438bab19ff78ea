"""Episodes become sequences with losses on actions only; cutting and padding keep lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from db1.sequence.episode import disturb_history, encode_episode
from db1.sequence.segment import NO_LOCAL_POSITION, fit, join
from db1.sequence.step import StepCodec
from db1.sequence.text import encode_text
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

VOCABULARY = Vocabulary(VocabularyConfig(text_size=300))
SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(2,))},
    action=FieldSpec(kind="discrete", num_values=4),
)


def _episode(num_steps: int) -> Episode:
    return Episode(
        observations={"x": np.arange(2 * num_steps, dtype=np.float32).reshape(num_steps, 2)},
        actions=np.arange(num_steps, dtype=np.int32) % 4,
        rewards=np.ones(num_steps, np.float32),
    )


def test_loss_falls_on_actions_only() -> None:
    codec = StepCodec(SPEC, VOCABULARY)
    sample = encode_episode(codec, _episode(3), "toy")
    assert sample.target_mask.tolist() == [False, False, False, True] * 3
    assert sample.local_positions.tolist() == [1, 2, 3, 0] * 3
    actions = sample.ids[sample.target_mask]
    assert codec.decode_action(actions[:, None]).tolist() == [0, 1, 2]


def test_a_prompt_is_not_predicted() -> None:
    codec = StepCodec(SPEC, VOCABULARY)
    prompt, body = (encode_episode(codec, _episode(n), "toy") for n in (2, 3))
    joined = join(prompt, body)
    assert joined.prompt_length == 8
    assert not joined.target_mask[:8].any()
    assert joined.target_mask[8:].tolist() == body.target_mask.tolist()
    assert join(None, body) is body


@pytest.mark.parametrize("length", [5, 12, 20])
def test_fit_cuts_and_pads(length: int) -> None:
    sample = encode_episode(StepCodec(SPEC, VOCABULARY), _episode(3), "toy")
    fitted = fit(sample, length, VOCABULARY.separator)
    assert len(fitted.ids) == len(fitted.target_mask) == len(fitted.local_positions) == length
    kept = min(length, 12)
    assert (fitted.ids[:kept] == sample.ids[:kept]).all()
    assert (fitted.ids[kept:] == VOCABULARY.separator).all()
    assert not fitted.target_mask[kept:].any()
    assert (fitted.local_positions[kept:] == NO_LOCAL_POSITION).all()


def test_text_has_no_local_positions_and_predicts_all() -> None:
    sample = encode_text(np.array([1, 2, 3]), VOCABULARY, "book")
    assert sample.ids.tolist() == [1, 2, 3]
    assert sample.target_mask.all()
    assert (sample.local_positions == NO_LOCAL_POSITION).all()


@pytest.mark.parametrize(
    "action",
    [FieldSpec(kind="discrete", num_values=4), FieldSpec(kind="continuous", shape=(2,))],
    ids=["discrete", "continuous"],
)
def test_history_noise_changes_what_is_read_and_not_what_is_predicted(action: FieldSpec) -> None:
    codec = StepCodec(StepSpec(observation=SPEC.observation, action=action), VOCABULARY)
    clean = _episode(200)
    if action.kind == "continuous":
        clean = replace(clean, actions=np.zeros((200, 2), np.float32))
    sample = encode_episode(codec, clean, "toy")
    assert disturb_history(codec, sample, 0.0, np.random.default_rng(0)) is sample
    noisy = disturb_history(codec, sample, 0.5, np.random.default_rng(0))
    assert (noisy.label_ids == sample.ids).all()
    changed = noisy.ids != sample.ids
    assert changed.any() and not (changed & ~sample.target_mask).any()
    shown = codec.decode_action(noisy.ids[sample.target_mask].reshape(200, -1))
    if action.kind == "discrete":
        assert 0.25 < changed[sample.target_mask].mean() < 0.5  # half redrawn, 3 of 4 differ
    else:
        assert 0.4 < shown.std() < 0.55
    joined = fit(join(sample, noisy), 50, VOCABULARY.separator)
    assert len(joined.label_ids) == 50 and (joined.label_ids[:20] == joined.ids[:20]).all()
