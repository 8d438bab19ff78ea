"""The codec gives, bit for bit, what the drawing of a step says; here written token by token.

text ids | image patches (row-major) | numbers (keys in lexicographic order) | SEP | action ids
local position  1    2    ...                                    n_obs     n_obs+1   0 ... 0
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db1.errors import DataError
from db1.sequence.episode import disturb_history
from db1.sequence.step import MAX_STEP_TOKENS, StepCodec, stack_observations
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, VocabularyConfig

TOKENIZER = TextTokenizer.train(["go to the red ball", "go to the box"] * 5, 300)
TEXTS = ["", "go", "go to the box", "go to the red ball", "Ωmega box", "box " * 9]
FLOATS = st.one_of(
    st.floats(-2, 2, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 256.0, -256.0, 1e-40]),
)


def reference_step(
    config: VocabularyConfig, spec: StepSpec, observation: dict[str, Any], action: np.ndarray
) -> tuple[list[int], list[int], list[bool], list[np.ndarray]]:
    """Ids, local positions, loss mask and images of one step."""
    ids: list[int] = []
    images = []
    for key in sorted(k for k, f in spec.observation.items() if f.kind == "text"):
        ids += TOKENIZER.encode(str(observation[key])).tolist()
    for key in sorted(k for k, f in spec.observation.items() if f.kind == "image"):
        height, width = spec.observation[key].shape[:2]
        ids += [IMAGE_PLACEHOLDER] * (height // 16 * (width // 16))
        images.append(observation[key])
    for key in sorted(spec.observation):
        field = spec.observation[key]
        if field.kind in ("discrete", "continuous"):
            for value in np.asarray(observation[key]).ravel():
                ids.append(_number(config, field, value, squashed=True))
    ids.append(config.text_size + config.num_continuous_bins)
    positions = list(range(1, len(ids) + 1))
    mask = [False] * len(ids)
    for value in np.asarray(action).ravel():
        ids.append(_number(config, spec.action, value, squashed=False))
        positions.append(0)
        mask.append(True)
    return ids, positions, mask, images


def _number(config: VocabularyConfig, field: FieldSpec, value: Any, squashed: bool) -> int:
    if field.kind == "discrete":
        own = config.text_size + config.num_continuous_bins + 1
        return int(value) + (own if config.discrete_ids == "own_range" else 0)
    y = np.float32(value)
    if squashed:
        scale = np.float32(math.log(config.max_magnitude * config.mu + 1.0))
        with np.errstate(over="ignore"):
            grown = np.abs(y) * np.float32(config.mu) + np.float32(1.0)
        y = np.sign(y) * np.log(np.array([grown]))[0] / scale
    y = min(max(y, np.float32(-1.0)), np.float32(1.0))
    place = (y + np.float32(1.0)) / np.float32(2.0) * np.float32(config.num_continuous_bins)
    return config.text_size + min(math.floor(place), config.num_continuous_bins - 1)


@st.composite
def configs(draw: st.DrawFn) -> VocabularyConfig:
    return VocabularyConfig(
        text_size=draw(st.sampled_from([300, 1_024])),
        num_continuous_bins=draw(st.sampled_from([1, 3, 1_000, 1_024])),
        num_discrete=300,
        discrete_ids=draw(st.sampled_from(["own_range", "shared_with_text"])),
        continuous_decode=draw(st.sampled_from(["centre", "left_edge"])),
        mu=draw(st.sampled_from([100.0, 7.3])),
        max_magnitude=draw(st.sampled_from([256.0, 9.1])),
    )


@st.composite
def fields(draw: st.DrawFn, kinds: tuple[str, ...]) -> FieldSpec:
    kind = draw(st.sampled_from(kinds))
    if kind == "text":
        return FieldSpec(kind="text")
    if kind == "image":
        sides = st.sampled_from([16, 32])
        return FieldSpec(kind="image", shape=(draw(sides), draw(sides), draw(st.integers(1, 4))))
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    if kind == "discrete":
        return FieldSpec(kind=kind, shape=shape, num_values=draw(st.integers(1, 300)))
    return FieldSpec(kind=kind, shape=shape)


@st.composite
def values(draw: st.DrawFn, field: FieldSpec) -> Any:
    if field.kind == "text":
        return draw(st.sampled_from(TEXTS))
    if field.kind == "image":
        return np.full(field.shape, draw(st.integers(0, 255)), dtype=np.uint8)
    if field.kind == "discrete":
        flat = draw(st.lists(st.integers(0, field.num_values - 1), min_size=field.size))
    else:
        flat = draw(st.lists(FLOATS, min_size=field.size))
    return np.array(flat[: field.size], dtype=field.dtype).reshape(field.shape)


@st.composite
def windows(draw: st.DrawFn) -> tuple[StepSpec, list[dict[str, Any]], list[np.ndarray]]:
    kinds = ("text", "image", "discrete", "continuous")
    keys = st.sampled_from(["zeta", "alpha", "Eye", "m", "m2"])
    observation = draw(st.dictionaries(keys, fields(kinds), min_size=1, max_size=5))
    spec = StepSpec(observation=observation, action=draw(fields(("discrete", "continuous"))))
    steps, actions = [], []
    for _ in range(draw(st.integers(1, 5))):
        steps.append({key: draw(values(field)) for key, field in spec.observation.items()})
        actions.append(draw(values(spec.action)))
    return spec, steps, actions


@given(configs(), windows())
def test_windows_and_single_steps_equal_the_drawing(
    config: VocabularyConfig, window: tuple[StepSpec, list[dict[str, Any]], list[np.ndarray]]
) -> None:
    spec, steps, actions = window
    codec = StepCodec(spec, Vocabulary(config), TOKENIZER)
    drawn = [reference_step(config, spec, *step) for step in zip(steps, actions, strict=True)]
    stacked = stack_observations(steps)
    whole = codec.encode_steps(stacked, np.stack(actions))
    assert whole.ids.dtype == whole.local_positions.dtype == np.int32
    assert whole.target_mask.dtype == bool
    assert whole.ids.tolist() == [i for ids, *_ in drawn for i in ids]
    assert whole.local_positions.tolist() == [p for _, positions, *_ in drawn for p in positions]
    assert whole.target_mask.tolist() == [m for *_, mask, _ in drawn for m in mask]
    expected = [image for *_, images in drawn for image in images]
    assert len(whole.images) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(whole.images, expected, strict=True))
    acting = codec.encode_observations(stacked)
    for tokens, (ids, positions, mask, images) in zip(acting, drawn, strict=True):
        num_seen = mask.count(False)
        assert tokens.ids.tolist() == ids[:num_seen]
        assert tokens.local_positions.tolist() == positions[:num_seen]
        assert all(np.array_equal(a, b) for a, b in zip(tokens.images, images, strict=True))
    alone = [
        codec.encode_observations(stack_observations([step]))[0].ids.tolist() for step in steps
    ]
    assert alone == [tokens.ids.tolist() for tokens in acting]


@given(configs(), windows(), st.floats(0.01, 2.0), st.integers(0, 99))
def test_disturbed_history_equals_noise_added_action_by_action(
    config: VocabularyConfig,
    window: tuple[StepSpec, list[dict[str, Any]], list[np.ndarray]],
    noise: float,
    seed: int,
) -> None:
    spec, steps, actions = window
    codec = StepCodec(spec, Vocabulary(config), TOKENIZER)
    clean = codec.encode_steps(stack_observations(steps), np.stack(actions), "toy")
    noisy = disturb_history(codec, clean, noise, np.random.default_rng(seed))
    assert noisy.label_ids.tolist() == clean.ids.tolist()
    generator = np.random.default_rng(seed)
    shape = (len(steps), *spec.action.shape)
    if spec.action.kind == "discrete":
        drawn = generator.integers(0, spec.action.num_values, shape)
        changed = np.where(generator.random(shape) < noise, drawn, np.stack(actions))
    else:
        bins = clean.ids[clean.target_mask] - config.text_size
        offset = 0.5 if config.continuous_decode == "centre" else 0.0
        decoded = (bins + offset) * (2.0 / config.num_continuous_bins) - 1.0
        decoded = decoded.astype(np.float32).reshape(shape)
        changed = decoded + generator.normal(0.0, noise, shape)
    expected = [
        _number(config, spec.action, value, squashed=False) for value in np.asarray(changed).ravel()
    ]
    assert noisy.ids[clean.target_mask].tolist() == expected
    assert (noisy.ids == clean.ids)[~clean.target_mask].all()


def test_a_long_text_in_one_step_is_refused_in_all() -> None:
    spec = StepSpec(
        observation={"mission": FieldSpec(kind="text")},
        action=FieldSpec(kind="discrete", num_values=2),
    )
    codec = StepCodec(spec, Vocabulary(VocabularyConfig(text_size=300)), TOKENIZER)
    texts = np.array(["go", "?" * (MAX_STEP_TOKENS - 1), "go"], dtype=object)
    longest = codec.encode_observations({"mission": texts})[1]
    assert len(longest.ids) == MAX_STEP_TOKENS
    texts[1] += "?"
    with pytest.raises(DataError, match="513 tokens, expected at most 512"):
        codec.encode_steps({"mission": texts}, np.zeros(3, np.int32))
