"""Which demonstrations prime which episode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.evaluation.settings import PRESETS, EvaluationConfig, preset
from db1.rollout.prompts import Prompts, read_prompts
from db1.sequence.step import StepCodec
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

TASK = "classic_control/CartPole-v1"
SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(2,))},
    action=FieldSpec(kind="discrete", num_values=2),
)
CODEC = StepCodec(SPEC, Vocabulary(VocabularyConfig(text_size=10, num_continuous_bins=8)))
STEP = 4
"""Tokens of a step."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """30 episodes of 3 steps; episode i has return 3 (i mod 10) and observes i."""
    path = tmp_path / TASK
    with EpisodeWriter(path, StoreHeader(task=TASK, spec=SPEC)) as writer:
        for i in range(30):
            writer.append(
                Episode(
                    observations={"x": np.full((3, 2), i, np.float32)},
                    actions=np.zeros(3, np.int32),
                    rewards=np.full(3, i % 10, np.float32),
                    seed=i,
                )
            )
    return path


def prompts_of(folder: Path, **settings: object) -> tuple[EvaluationConfig, Prompts]:
    config = EvaluationConfig(**{"episodes": 8, "memory_length": 3 * STEP, **settings})
    return config, read_prompts(TASK, folder, CODEC, config)


def test_top_takes_the_highest_returns_in_turn(folder: Path) -> None:
    config, prompts = prompts_of(folder, num_prompts=4)
    assert [prompts.of(seed) for seed in config.seeds] == [[9], [19], [29], [8]] * 2
    later, moved = prompts_of(folder, num_prompts=4, first_episode=2, episodes=3)
    assert [moved.of(seed) for seed in later.seeds] == [[29], [8], [9]]


def test_sample_peak_draws_from_the_best_tenth(folder: Path) -> None:
    config, prompts = prompts_of(folder, prompt_rule="sample_peak", episodes=40)
    drawn = [prompts.of(seed)[0] for seed in config.seeds]
    assert set(drawn) == {9, 19, 29} and drawn != sorted(drawn)
    _, again = prompts_of(folder, prompt_rule="sample_peak", episodes=40)
    assert again.number_of == prompts.number_of
    fewer, part = prompts_of(folder, prompt_rule="sample_peak", episodes=5)
    assert [part.of(seed) for seed in fewer.seeds] == [[n] for n in drawn[:5]]
    _, other = prompts_of(folder, prompt_rule="sample_peak", episodes=40, seed=1)
    assert [other.of(seed)[0] for seed in config.seeds] != drawn


def test_uniform_draws_from_all(folder: Path) -> None:
    config, prompts = prompts_of(folder, prompt_rule="uniform", episodes=200)
    assert len({prompts.of(seed)[0] for seed in config.seeds}) == 30


def test_filling_joins_demonstrations(folder: Path) -> None:
    _, prompts = prompts_of(folder, prompt_fill=True, memory_length=8 * STEP, episodes=1)
    (episode,) = prompts.episodes
    assert prompts.demonstrations == [(9, 19, 29)] and len(episode) == 8
    assert episode.observations["x"][:, 0].tolist() == [9, 9, 9, 19, 19, 19, 29, 29]
    _, ends = prompts_of(
        folder, prompt_fill=True, memory_length=5 * STEP, episodes=1, prompt_part="end"
    )
    assert ends.episodes[0].observations["x"][:, 0].tolist() == [19, 19, 9, 9, 9]
    _, whole = prompts_of(folder, prompt_fill=True, memory_length=200 * STEP, episodes=1)
    assert len(whole.episodes[0]) == 200


def test_a_few_shot_run_is_prompted_with_its_own(folder: Path) -> None:
    config = EvaluationConfig(episodes=4, memory_length=3 * STEP)
    prompts = read_prompts(TASK, folder, CODEC, config, chosen=[3, 5])
    assert [prompts.of(seed) for seed in config.seeds] == [[5], [3]] * 2
    with pytest.raises(DataError, match="learned from number 30"):
        read_prompts(TASK, folder, CODEC, config, chosen=[30])


def test_lengths_by_strategy(folder: Path) -> None:
    config = EvaluationConfig(memory_length=40)
    assert config.prompt_length == 40
    assert replace(config, prompt_strategy="fixed").prompt_length == 20
    assert replace(config, prompt_tokens=7).prompt_length == 7
    assert replace(config, prompt=False).prompt_length == 0
    assert replace(config, policy="retrieval").prompt_length == 0
    assert not replace(config, memory_length=0).needs_demonstrations
    assert replace(config, policy="retrieval", prompt=False).needs_demonstrations


def test_without_demonstrations_it_says_what_to_do(tmp_path: Path) -> None:
    config = EvaluationConfig(memory_length=40)
    with pytest.raises(DataError, match=f"db1 collect {TASK} --out .*--allow-missing-prompt"):
        read_prompts(TASK, tmp_path / TASK, CODEC, config)
    released = tmp_path / "walker_7_main-expert-v1"
    released.mkdir()
    (released / "path_lengths.npy").touch()
    with pytest.raises(DataError, match="db1 import db1-cache"):
        read_prompts(TASK, tmp_path / TASK, CODEC, config)


def test_presets() -> None:
    assert preset("released").episodes == 5 and preset("publication").episodes == 50
    assert preset("released", episodes=7).episodes == 7
    assert preset("default") == EvaluationConfig()
    with pytest.raises(ConfigError, match="did you mean 'released'"):
        preset("relased")
    assert set(PRESETS) == {"default", "released", "publication"}


def test_the_store_is_not_changed(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    prompts_of(folder, prompt_fill=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert EpisodeStore(folder).num_episodes == 30
