"""Sequences read back, against the samples and the stored values themselves."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_run import ALL_KINDS, MASKED, MISSIONS, make_run, task_sample, write_all

from db1.data.mixture import sample_hash
from db1.data.pairs import PairData, PairSource
from db1.errors import ConfigError
from db1.inspection.describe import Description, describe, describe_from
from db1.inspection.runs import RunData
from db1.inspection.walk import NUMBER_PATCH, TEXT, StepLayout
from db1.sequence.segment import TokenSegment
from db1.sequence.step import StepCodec
from db1.store.instructions import write_instruction
from db1.store.pairs import Pair, PairHeader, PairWriter
from db1.tokens.instruction import Instruction
from db1.tokens.number_patch import PatchSizes
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(root: Path) -> RunData:
    return make_run(root)


def _all(run: RunData) -> list[Description]:
    return [
        run.describe(step, slot)[0]
        for step in range(run.num_steps)
        for slot in range(run.batch_size)
    ]


def test_every_sample_of_the_run_is_read_back_whole(run: RunData) -> None:
    kinds, parts, sources = set(), set(), set()
    for n, description in enumerate(_all(run)):
        sample = run.mixture[n]
        assert description.to_dict()["sha256"] == sample_hash(sample)
        tokens = description.tokens
        assert [t.index for t in tokens] == list(range(81))
        assert [t.id for t in tokens] == sample.ids.tolist()
        labels = [t.id if t.label is None else t.label for t in tokens]
        assert labels == sample.label_ids.tolist()
        positions = [-1 if t.local_position is None else t.local_position for t in tokens]
        assert positions == sample.local_positions.tolist()
        assert [t.is_target for t in tokens[1:]] == sample.target_mask[1:].tolist()
        assert not tokens[0].is_target
        prompt = [t.part == "prompt" for t in tokens]
        assert prompt == [n < sample.prompt_length for n in range(81)]
        kinds |= set(description.counts)
        parts |= {t.part for t in tokens}
        sources.add(sample.source)
        assert description.findings == ()
    assert sources == {"toy/all", "toy/masked", "psalm"}
    assert parts == {"prompt", "body", "padding"}
    assert {"text", "image patch", "number", "discrete value", "separator"} <= kinds
    assert {"action number", "action value"} <= kinds


@pytest.mark.parametrize("shared", ["own_range", "shared_with_text"])
@pytest.mark.parametrize("task", ["toy/all", "toy/masked"])
def test_fields_and_values_are_those_of_the_episode(root: Path, task: str, shared: str) -> None:
    run = make_run(
        root,
        vocabulary={"discrete_ids": shared},
        sequence={"prompt_probability": 0.0, "history_noise": 0.0},
    )
    source, _ = task_sample(run, task)
    observations, actions = source.windows.read(2, 1, 6)
    sample = source.codec.encode_steps(observations, actions, task)
    made = describe(sample, run.vocabulary, run.factory.tokenizer, source.codec.spec)
    assert made.findings == () and made.num_steps == 5
    scalar = ScalarTokenizer(run.vocabulary.config)
    seen = {key: np.zeros(value.shape) for key, value in observations.items() if key != "mission"}
    seen["action"] = np.zeros(actions.shape)
    for token in made.tokens:
        if token.kind in ("number", "action number", "discrete value", "action value"):
            seen[token.field][(token.step, *token.field_index)] = token.value
    for key, spec in {**source.codec.spec.observation, "action": source.codec.spec.action}.items():
        if spec.kind == "continuous":
            encode, decode = (
                (scalar.encode_action, scalar.decode_action)
                if key == "action"
                else (scalar.encode_observation, scalar.decode_observation)
            )
            wanted = decode(encode(actions if key == "action" else observations[key]))
            np.testing.assert_allclose(seen[key], wanted, rtol=1e-6)
        elif spec.kind == "discrete":
            np.testing.assert_array_equal(
                seen[key], actions if key == "action" else observations[key]
            )
    assert set(made.texts.values()) == {MISSIONS[2]}
    for token in made.tokens:
        if token.kind == "number":
            assert token.squashed == pytest.approx(
                float(scalar.decode_action(np.array([token.bin]))[0])
            )


def test_patches_name_their_image_and_place(run: RunData) -> None:
    source, sample = task_sample(run, "toy/all")
    tokens = describe(sample, run.vocabulary, None, source.codec.spec).tokens
    patches = [t for t in tokens if t.id == IMAGE_PLACEHOLDER]
    assert [(t.image, t.field_index) for t in patches[:4]] == [
        (0, (0, 0)), (0, (0, 1)), (1, (0, 0)), (1, (0, 1)),
    ]  # fmt: skip
    assert {t.field for t in patches} == {"view"}


def test_padding_and_cut_steps(root: Path) -> None:
    long = make_run(root, sequence={"length": 600})
    source, sample = task_sample(long, "toy/all")
    description = describe(sample, long.vocabulary, long.factory.tokenizer, source.codec.spec)
    padding = [t for t in description.tokens if t.part == "padding"]
    assert len(padding) == int((sample.local_positions == -1).sum()) > 300
    assert description.findings == ()
    for length in range(60, 81):  # cut at every place of a step
        cut = make_run(root, sequence={"length": length, "prompt_probability": 0.0})
        for task in ("toy/all", "toy/masked"):
            source, sample = task_sample(cut, task)
            made = describe(sample, cut.vocabulary, None, source.codec.spec)
            assert made.findings == ()
            assert made.tokens[-1].local_position == sample.local_positions[-1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 50])
def test_the_layout_is_that_of_the_codec(run: RunData, size: int) -> None:
    patches = PatchSizes(numbers=size)
    for spec in (ALL_KINDS, MASKED):
        codec = StepCodec(spec, run.vocabulary, run.factory.tokenizer, patches)
        layout = StepLayout.of(spec, run.vocabulary, patches)
        assert layout.min_step_tokens == codec.min_step_tokens


def test_number_patches_and_instructions_are_read_back(root: Path) -> None:
    for task, field in (("toy/all", "mission"), ("toy/masked", "word")):
        write_instruction(root / task, Instruction(text="unused", field=field))
    changes = {"instruction": True, "max_instruction": 40, "prompt_probability": 0.0}
    run = make_run(root, sequence=changes, patches=PatchSizes(numbers=4))
    source, sample = task_sample(run, "toy/all")
    made = describe_from(source, sample, run.vocabulary, run.factory.tokenizer)
    assert made.findings == ()
    spoken = [t for t in made.tokens if t.part == "instruction"]
    assert {t.kind for t in spoken} == {TEXT} and made.texts[0] in MISSIONS
    assert not any(t.kind == TEXT for t in made.tokens[len(spoken) :])
    patches = [t for t in made.tokens if t.kind == NUMBER_PATCH]
    assert [t.field for t in patches[:2]] == ["count", "state"]
    assert patches[0].step == 0 and made.tokens[0].step is None
    count, state = patches[0].value.split(), patches[1].value.split()
    assert len(count) == 2 and len(state) == 4
    assert all(0 <= int(value) < 7 for value in count)
    ids = np.where(sample.ids == -2, -1, sample.ids)
    broken = replace(sample, ids=ids, labels=None)
    found = describe_from(source, broken, run.vocabulary, None).findings
    assert found and "number patch of count: id -1" in found[0].what


def _without_separator(sample: TokenSegment, separator: int) -> TokenSegment:
    n = int(np.flatnonzero(sample.ids == separator)[1])
    keep = np.arange(len(sample.ids)) != n
    return replace(
        sample,
        ids=sample.ids[keep],
        labels=None,
        local_positions=sample.local_positions[keep],
        target_mask=sample.target_mask[keep],
    )


def _moved_separator(sample: TokenSegment, separator: int) -> TokenSegment:
    ids = sample.ids.copy()
    n = int(np.flatnonzero(ids == separator)[1])
    ids[[n, n - 1]] = ids[[n - 1, n]]
    return replace(sample, ids=ids, labels=None)


def _wrong_position(sample: TokenSegment, separator: int) -> TokenSegment:
    positions = sample.local_positions.copy()
    positions[np.flatnonzero(sample.ids == separator)[1] - 1] += 3
    return replace(sample, local_positions=positions)


def _loss_on_observation(sample: TokenSegment, separator: int) -> TokenSegment:
    mask = sample.target_mask.copy()
    mask[np.flatnonzero(sample.ids == separator)[1]] = True
    return replace(sample, target_mask=mask)


def _foreign_action(sample: TokenSegment, separator: int) -> TokenSegment:
    ids = sample.ids.copy()
    ids[np.flatnonzero(sample.target_mask)[0]] = 0
    return replace(sample, ids=ids, labels=None)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_separator, "separator|id"),
        (_moved_separator, "id|separator"),
        (_wrong_position, "local position"),
        (_loss_on_observation, "what is to be predicted"),
        (_foreign_action, "action .*id 0, expected"),
    ],
)
@pytest.mark.parametrize("task", ["toy/all", "toy/masked"])
def test_broken_sequences_are_told(
    run: RunData, task: str, spoil: Callable[[TokenSegment, int], TokenSegment], said: str
) -> None:
    source, sample = task_sample(run, task, 1)
    made = describe(
        spoil(sample, run.vocabulary.separator), run.vocabulary, None, source.codec.spec
    )
    assert len(made.tokens) in (80, 81)
    assert made.findings and all(f.severity == "error" for f in made.findings)
    assert re.search(said, " ".join(f.what for f in made.findings))


def test_steps_and_slots_beyond_the_run(run: RunData) -> None:
    for step, slot in ((10, 0), (0, 4)):
        with pytest.raises(ConfigError, match=r"steps 0\.\.9 of 4 sequences"):
            run.describe(step, slot)


def _picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 30, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_captions_are_read_back(run: RunData, tmp_path: Path) -> None:
    header = PairHeader(name="pictures", split="train", kind="caption")
    with PairWriter(tmp_path / "train", header) as writer:
        for n in range(3):
            writer.append(Pair(image_name=f"{n}.png", texts=(f"the plate {n}",)), _picture(n))
    config = PairData(kind="caption", image_size=32)
    tokenizer = run.factory.tokenizer
    source = PairSource(
        tmp_path, "pictures", run.vocabulary, tokenizer, config, run.sequence, 0, False, 0.0
    )
    sample = source.sample(0, np.random.default_rng(0))
    made = describe_from(source, sample, run.vocabulary, tokenizer)
    assert made.findings == () and made.num_steps is None
    assert made.counts["image patch"] == 4 and made.counts["padding"] > 0
    places = [(t.image, t.field_index) for t in made.tokens if t.kind == "image patch"]
    assert places == [(0, (0, 0)), (0, (0, 1)), (0, (1, 0)), (0, (1, 1))]
    assert "the plate" in " ".join(made.texts.values())
    assert [t.is_target for t in made.tokens] == sample.target_mask.tolist()
    ids = sample.ids.copy()
    ids[1] = run.vocabulary.separator
    (finding,) = describe_from(source, replace(sample, ids=ids), run.vocabulary, tokenizer).findings
    assert finding.code == "structure" and "token 1" in finding.where
