"""Prompts and instructions stand in front of what is acted, in a batch as alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from agent_episodes import MAX_STEPS, demonstrations, run_episodes, traced, whole_pass_scores

from db1.errors import ConfigError, DataError
from db1.inference.agent import Agent
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import encode_episode, instruct
from db1.sequence.segment import join
from db1.sequence.step import StepCodec
from db1.suites import make_env
from db1.tokens.number_patch import PatchSizes, concatenate_patches
from db1.tokens.spec import Episode
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER, Vocabulary


@pytest.mark.parametrize("part", ["start", "end"])
@pytest.mark.parametrize("prompt_tokens", [13, 4_000])
def test_prompt_stands_before_the_episode(
    make_model: Callable, codec: StepCodec, task: str, part: str, prompt_tokens: int
) -> None:
    model, prompts = make_model(), demonstrations(task, 2)
    agent = Agent(
        model, codec, memory_length=4_000, batch_size=1,
        prompts=prompts, prompt_tokens=prompt_tokens, prompt_part=part,
    )  # fmt: skip
    with traced(model) as trace:
        episode = run_episodes(task, agent, [11], [3], [1])[0]
    prompt = encode_episode(codec, prompts[1], task)
    cut = slice(0, prompt_tokens) if part == "start" else slice(-prompt_tokens, None)
    stored = encode_episode(codec, episode, task)
    ids = np.concatenate([prompt.ids[cut], stored.ids])
    np.testing.assert_array_equal(np.concatenate([i[0] for i in trace.ids]), ids[:-1])
    positions = np.concatenate([prompt.local_positions[cut], stored.local_positions])
    targets = np.concatenate([np.zeros(len(prompt.ids[cut]), bool), stored.target_mask])
    kept = prompt.numbers
    if kept is not None:
        holes = prompt.ids == NUMBER_PLACEHOLDER
        first = int(holes[: len(holes) - len(holes[cut])].sum()) if part == "end" else 0
        kept = kept[first : first + int(holes[cut].sum())]
    numbers = concatenate_patches([kept, stored.numbers])
    expected = whole_pass_scores(model, codec, ids, positions, numbers)[targets[1:]]
    np.testing.assert_allclose(np.concatenate(trace.scores), expected, atol=1e-9)


@pytest.mark.parametrize("prompted", [False, True])
def test_the_instruction_stands_in_front_and_stays(
    make_model: Callable, codec: StepCodec, task: str, tokenizer: TextTokenizer, prompted: bool
) -> None:
    """Ids fed are those of the learned sequence; a short memory keeps the words of each row."""
    model = make_model()
    key = "mission" if "mission" in codec.spec.observation else None
    spoken = StepCodec(codec.spec, codec.vocabulary, tokenizer, codec.patches, key)
    prompts = demonstrations(task, 2) if prompted else None
    options = {"instruction": "go to the key", "prompts": prompts}
    agent = Agent(model, spoken, memory_length=4_000, batch_size=1, **options)
    with traced(model) as trace:
        episode = run_episodes(task, agent, [11], [4], [1])[0]
    text = "go to the key" if key is None else str(episode.observations[key][0])
    words = spoken.encode_instruction(text)
    body = encode_episode(spoken, episode, task)
    prompt = encode_episode(spoken, prompts[1], task) if prompted else None
    stored = instruct(words, join(prompt, body))
    assert stored.instruction_length == len(words) > 0
    fed = np.concatenate([ids[0] for ids in trace.ids])
    np.testing.assert_array_equal(fed, stored.ids[:-1])
    positions = np.concatenate([places[0] for places in trace.local_positions])
    np.testing.assert_array_equal(positions, stored.local_positions[:-1])
    expected = whole_pass_scores(model, spoken, stored.ids, stored.local_positions, stored.numbers)
    np.testing.assert_allclose(
        np.concatenate(trace.scores), expected[stored.target_mask[1:]], atol=1e-9
    )
    assert (key is None) or len(body.ids) < len(encode_episode(codec, episode, task).ids)


def test_memory_0_sees_the_instruction_and_the_step(
    make_model: Callable, codec: StepCodec, task: str, tokenizer: TextTokenizer
) -> None:
    model = make_model()
    agent = Agent(
        model, codec, memory_length=0, batch_size=1, instruction="open the door",
        override_instruction=True,
    )  # fmt: skip
    with traced(model) as trace:
        episode = run_episodes(task, agent, [11], [3], [0])[0]
    words = codec.encode_instruction("open the door")
    expected = []
    for t in range(len(episode)):
        one = Episode(
            observations={key: array[t : t + 1] for key, array in episode.observations.items()},
            actions=episode.actions[t : t + 1],
            rewards=episode.rewards[t : t + 1],
        )
        step = instruct(words, encode_episode(codec, one, task))
        scores = whole_pass_scores(model, codec, step.ids, step.local_positions, step.numbers)
        expected.append(scores[step.target_mask[1:]])
    np.testing.assert_allclose(np.concatenate(trace.scores), np.concatenate(expected), atol=1e-9)


def test_rows_with_instructions_of_different_lengths_are_those_of_each_alone(
    make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> None:
    pytest.importorskip("minigrid", reason='needs pip install "db1[babyai]"')
    task, model = "babyai/GoToLocal", make_model(number_patch=21)
    patches = PatchSizes(numbers=21)
    codec = StepCodec(make_env(task).step_spec, vocabulary, tokenizer, patches, "mission")
    options = {"memory_length": 25, "instruction": "unused"}
    seeds = [5, 6, 7]
    together = Agent(model, codec, batch_size=3, **options)
    episodes = run_episodes(task, together, seeds, [MAX_STEPS] * 3, [0] * 3)
    assert len({len(codec.encode_instruction(e.observations["mission"][0])) for e in episodes}) > 1
    for seed, episode in zip(seeds, episodes, strict=True):
        alone = Agent(model, codec, batch_size=1, **options)
        only = run_episodes(task, alone, [seed], [MAX_STEPS], [0])[0]
        np.testing.assert_array_equal(episode.actions, only.actions)


def test_a_long_instruction_is_refused(make_model: Callable, codec: StepCodec, task: str) -> None:
    def play(words: str, cut: bool, override: bool) -> Episode:
        agent = Agent(
            model, codec, memory_length=40, batch_size=1, instruction=words,
            max_instruction=16, cut_instruction=cut, override_instruction=override,
        )  # fmt: skip
        return run_episodes(task, agent, [11], [4], [0])[0]

    model, words = make_model(), "go to it " * 30
    for cut, override in ((False, False), (False, True), (True, True)):  # a person's are not cut
        with pytest.raises(DataError, match="tokens, expected at most 16; shorten it"):
            play(words, cut, override)
    shortened = play(words, cut=True, override=False)
    np.testing.assert_array_equal(
        shortened.actions, play(words + "and on", cut=True, override=False).actions
    )


@pytest.mark.parametrize("start", ["empty", "zeros"])
def test_a_fixed_prompt_stays_in_front(
    make_model: Callable[..., TransformerXL], vocabulary: Vocabulary, start: str
) -> None:
    """Batch = alone; as long as all fits, fixed = moving; behind that they differ."""
    model = make_model(memory_start=start)
    codec = StepCodec(make_env("classic_control/Pendulum-v1").step_spec, vocabulary)
    prompts = demonstrations("classic_control/Pendulum-v1", 2)

    def actions(memory: int, strategy: str, rows: list[int]) -> list[list[float]]:
        agent = Agent(
            model, codec, memory_length=memory, batch_size=len(rows), prompts=prompts,
            prompt_tokens=8, prompt_strategy=strategy,
        )  # fmt: skip
        seeds, stops = [11, 12, 13], [9, 4, 9]
        done = run_episodes(
            "classic_control/Pendulum-v1", agent,
            [seeds[row] for row in rows], [stops[row] for row in rows], rows,
        )  # fmt: skip
        return [episode.actions.ravel().tolist() for episode in done]

    together = actions(18, "fixed", [0, 1, 2])
    assert together == [actions(18, "fixed", [row])[0] for row in range(3)]
    assert together != actions(18, "moving", [0, 1, 2])
    if start == "empty":
        assert actions(80, "fixed", [0, 1, 2]) == actions(80, "moving", [0, 1, 2])


def test_a_fixed_prompt_must_leave_room(
    make_model: Callable[..., TransformerXL], vocabulary: Vocabulary
) -> None:
    codec = StepCodec(make_env("classic_control/Pendulum-v1").step_spec, vocabulary)
    prompts = demonstrations("classic_control/Pendulum-v1", 1)
    options = {"memory_length": 8, "batch_size": 1, "prompts": prompts}
    with pytest.raises(ConfigError, match="lower prompt_tokens"):
        Agent(make_model(), codec, prompt_strategy="fixed", **options)
    with pytest.raises(ConfigError, match="prompt_strategy: got 'standing'"):
        Agent(make_model(), codec, prompt_strategy="standing", **options)
