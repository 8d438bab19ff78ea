"""Sequences with the task in words in front, and which windows of an episode are drawn."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from db1.data.build import SourceFactory
from db1.data.config import DataConfig, TaskData
from db1.data.instruction_tokenizer import train_instruction_tokenizer
from db1.data.mixture import generator_of, sample_hash
from db1.data.number_ranges import number_ranges
from db1.data.sources import EpisodeSource, EpisodeWindows
from db1.errors import ConfigError, DataError
from db1.sequence.episode import SequenceConfig
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.store.instructions import read_instruction, write_instruction
from db1.tokens.instruction import Instruction
from db1.tokens.number_patch import PatchSizes
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER, Vocabulary, VocabularyConfig

MISSIONS = ("go to the red ball", "open the door", "pick up the grey key")
SPEC = StepSpec(
    observation={
        "mission": FieldSpec(kind="text"),
        "state": FieldSpec(kind="continuous", shape=(5,)),
    },
    action=FieldSpec(kind="discrete", num_values=4),
)
VOCABULARY = Vocabulary(VocabularyConfig(text_size=400, num_continuous_bins=64, num_discrete=8))
SPOKEN = SequenceConfig(length=40, instruction=True, max_instruction=20, prompt_probability=0.0)


def write_task(root: Path, task: str, words: bool = False, length: int = 12) -> Path:
    """Six episodes whose states count; with `words` each brings an instruction of its own."""
    with EpisodeWriter(root / task, StoreHeader(task=task, spec=SPEC)) as writer:
        for n in range(6):
            writer.append(
                Episode(
                    observations={
                        "mission": np.array([MISSIONS[n % 3]] * length, dtype=object),
                        "state": np.full((length, 5), n, np.float32) + np.arange(length)[:, None],
                    },
                    actions=np.arange(length, dtype=np.int32) % 4,
                    rewards=np.ones(length, np.float32),
                    metadata={"instruction": f"episode {n}"} if words else {},
                )
            )
    return root / task


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train([" ".join(MISSIONS), "episode 0 1 2 3 4 5"], 300)


def source(path: Path, tokenizer: TextTokenizer, config: SequenceConfig = SPOKEN) -> EpisodeSource:
    return EpisodeSource(path, VOCABULARY, tokenizer, config, patches=PatchSizes(numbers=3))


def spoken_words(sample, tokenizer: TextTokenizer) -> str:
    ids = sample.ids[: sample.instruction_length]
    assert (sample.local_positions[: len(ids)] == NO_LOCAL_POSITION).all()
    assert not sample.target_mask[: len(ids)].any()
    return tokenizer.decode(ids)


def test_the_field_of_an_episode_stands_in_front_and_not_in_its_steps(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    path = write_task(tmp_path, "toy/mission")
    write_instruction(path, Instruction(text="unused", field="mission"))
    made = source(path, tokenizer)
    seen = set()
    for n in range(40):
        episode, start, _ = made.windows.draw(generator_of(0, n))
        sample = made.sample(0, generator_of(0, n))
        text = spoken_words(sample, tokenizer)
        assert text == MISSIONS[episode % 3]
        seen.add(text)
        body = sample.ids[sample.instruction_length :]
        assert (body[[0, 1]] == NUMBER_PLACEHOLDER).all() and body[2] == VOCABULARY.separator
        np.testing.assert_array_equal(sample.numbers.values[0], [episode + start] * 3)
        assert len(sample.ids) == SPOKEN.length + 1
    assert seen == set(MISSIONS)


def test_words_of_the_demonstrations_of_the_suite_and_of_the_name(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    own = source(write_task(tmp_path, "toy/own", words=True), tokenizer)
    for n in range(10):
        episode = own.windows.draw(generator_of(1, n))[0]
        assert spoken_words(own.sample(0, generator_of(1, n)), tokenizer) == f"episode {episode}"
    suite = write_task(tmp_path, "toy/suite")
    write_instruction(suite, Instruction(text="open the red door"))
    said = source(suite, tokenizer).sample(0, generator_of(0, 0))
    assert spoken_words(said, tokenizer) == "open the red door"
    named = write_task(tmp_path, "toy/GoToDoor-v3")
    assert read_instruction(named, "toy/GoToDoor-v3").text == "toy go to door v3"


def test_prompts_stand_behind_the_words(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    path = write_task(tmp_path, "toy/suite")
    write_instruction(path, Instruction(text="unused", field="mission"))
    config = SequenceConfig(length=40, instruction=True, max_instruction=20, prompt_probability=1.0)
    sample = source(path, tokenizer, config).sample(0, generator_of(0, 0))
    assert 0 < sample.instruction_length < sample.prompt_length
    assert not sample.target_mask[: sample.prompt_length].any()
    assert sample.target_mask[sample.prompt_length :].any()


def test_long_words_broken_files_and_missing_tokenizers_are_refused(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    path = write_task(tmp_path, "toy/long")
    write_instruction(path, Instruction(text="open the door " * 30))
    with pytest.raises(DataError, match=r"toy/long episode \d: instruction .* at most 20; shorten"):
        source(path, tokenizer).sample(0, generator_of(0, 0))
    config = dataclasses.replace(SPOKEN, long_instruction="cut")
    shortened = source(path, tokenizer, config).sample(0, generator_of(0, 0))
    assert shortened.instruction_length == SPOKEN.max_instruction
    assert spoken_words(shortened, tokenizer).startswith("open the door open the")
    with pytest.raises(ConfigError, match="long_instruction: got 'drop', expected one of"):
        SequenceConfig(length=40, long_instruction="drop")
    (path / "instruction.json").write_text(json.dumps({"text": 3}))
    with pytest.raises(DataError, match=r"instruction.json: expected \{\"text\""):
        source(path, tokenizer)
    with pytest.raises(ConfigError, match="max_instruction: got 64, expected fewer tokens"):
        SequenceConfig(length=40, instruction=True)
    config = DataConfig(root=tmp_path, tasks={"toy/long": TaskData()})
    with pytest.raises(DataError, match="sequence.instruction needs a tokenizer; run `db1 collect"):
        SourceFactory(config, SPOKEN, VOCABULARY, 0)


def test_a_tokenizer_is_learned_from_the_words_of_all_tasks(tmp_path: Path) -> None:
    write_instruction(write_task(tmp_path, "toy/a"), Instruction(text="", field="mission"))
    write_task(tmp_path, "toy/b", words=True)
    config = DataConfig(root=tmp_path, tasks={"toy/a": TaskData(), "toy/b": TaskData()})
    learned = train_instruction_tokenizer(config, 320)
    learned.save(config.instruction_tokenizer_path)
    for text in (*MISSIONS, "episode 5"):
        assert learned.decode(learned.encode(text)) == text
        assert len(learned.encode(text)) <= len(text.split()) + 1
    assert SourceFactory(config, SPOKEN, VOCABULARY, 0).tokenizer is not None


def test_hashes_of_samples_cover_numbers_and_words(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    path = write_task(tmp_path, "toy/suite")
    sample = source(path, tokenizer).sample(0, generator_of(0, 0))
    before = sample_hash(sample)
    sample.numbers.values[0, 0] += 1
    assert sample_hash(sample) != before


def test_clipped_starts_draw_the_ends_of_an_episode_more_often(tmp_path: Path) -> None:
    """12 steps, windows of 4: starts -3..11 moved into 0..8, so 0 and 8 come 4 times as often."""
    store = EpisodeStore(write_task(tmp_path, "toy/suite"))
    windows = EpisodeWindows(store, range(6), 4, "clipped")
    rng = np.random.default_rng(0)
    drawn = Counter(windows.draw(rng)[1] for _ in range(9_000))
    expected = np.array([4, 1, 1, 1, 1, 1, 1, 1, 4]) * 600
    counts = np.array([drawn[start] for start in range(9)])
    assert sorted(drawn) == list(range(9))
    np.testing.assert_allclose(counts, expected, rtol=0.15)
    short = EpisodeWindows(store, range(6), 20, "clipped")
    assert {short.draw(rng)[1:] for _ in range(50)} == {(0, 12)}


def test_ranges_of_numbers_are_measured_over_the_training_episodes(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    first = source(write_task(tmp_path, "toy/a"), tokenizer)
    second = source(write_task(tmp_path, "toy/b"), tokenizer)
    alone, pooled = number_ranges([first]), number_ranges([first, second])
    assert len(alone) == 2 and set(alone) == set(pooled), "two patches of three and two numbers"
    state = np.arange(5)[:, None] + np.arange(12)  # the last of six episodes is held out
    for means, deviations in alone.values():
        held = deviations > 0
        assert held.sum() in (2, 3)
        np.testing.assert_allclose(means[held], state.mean())
        np.testing.assert_allclose(deviations[held], state.std())
    for layout, (means, deviations) in pooled.items():
        np.testing.assert_allclose(means, alone[layout][0])
        np.testing.assert_allclose(deviations, alone[layout][1])
    plain = EpisodeSource(first.store.path, VOCABULARY, tokenizer, SPOKEN)
    assert not number_ranges([plain])
