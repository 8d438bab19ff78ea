"""Acting in a batch = acting alone = one pass over the stored episode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from agent_episodes import MAX_STEPS, TASKS, demonstrations, run_episodes, traced, whole_pass_scores

from db1.errors import ConfigError, DataError
from db1.inference.agent import Agent
from db1.sequence.episode import encode_episode
from db1.sequence.step import StepCodec
from db1.suites import make_env
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary


@pytest.mark.parametrize("memory_length", [0, 40, 2_000])
@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("start", ["empty", "zeros"])
def test_lockstep_equals_each_episode_alone(
    make_model: Callable, codec: StepCodec, task: str, memory_length: int, prompted: bool, start
) -> None:
    if start == "zeros" and memory_length == 2_000:
        pytest.skip("2,000 zeros are attended to; nothing that the shorter memory does not test")
    model = make_model(memory_start=start)
    prompts = demonstrations(task, 3) if prompted else None
    seeds, stops, numbers = [5, 6, 7], [MAX_STEPS, 3, 5], [2, 0, 1]
    options = {"memory_length": memory_length, "prompts": prompts, "prompt_part": "end"}
    with torch.no_grad():
        together = Agent(model, codec, batch_size=3, **options)
        episodes = run_episodes(task, together, seeds, stops, numbers)
        for i in range(3):
            alone = Agent(model, codec, batch_size=1, **options)
            only = run_episodes(task, alone, seeds[i : i + 1], stops[i : i + 1], [numbers[i]])[0]
            np.testing.assert_array_equal(episodes[i].actions, only.actions)


def test_ids_when_acting_are_the_ids_of_the_stored_episode(
    make_model: Callable, codec: StepCodec, task: str
) -> None:
    model = make_model()
    agent = Agent(model, codec, memory_length=4_000, batch_size=1)
    with traced(model) as trace:
        episode = run_episodes(task, agent, [11], [MAX_STEPS], [0])[0]
    stored = encode_episode(codec, episode, task)
    fed = np.concatenate([ids[0] for ids in trace.ids])
    positions = np.concatenate([ids[0] for ids in trace.local_positions])
    np.testing.assert_array_equal(fed, stored.ids[:-1])
    np.testing.assert_array_equal(positions, stored.local_positions[:-1])
    scores = np.concatenate(trace.scores)
    expected = whole_pass_scores(model, codec, stored.ids, stored.local_positions, stored.numbers)
    np.testing.assert_allclose(scores, expected[stored.target_mask[1:]], atol=1e-9)


@pytest.mark.parametrize("memory_length", [0, 3, 40])
def test_every_step_starts_with_at_most_the_memory(
    make_model: Callable, codec: StepCodec, task: str, memory_length: int
) -> None:
    model = make_model()
    agent = Agent(model, codec, memory_length=memory_length, batch_size=1)
    with traced(model) as trace:
        run_episodes(task, agent, [11], [MAX_STEPS], [0])
    total = 0
    for ids, held in zip(trace.ids, trace.held, strict=True):
        is_step_start = ids.shape[1] > 1
        assert held == (min(total, memory_length) if is_step_start else total)
        total = held + ids.shape[1]


def test_memory_0_sees_the_step_alone(make_model: Callable, codec: StepCodec, task: str) -> None:
    model = make_model()
    agent = Agent(model, codec, memory_length=0, batch_size=1, prompts=demonstrations(task, 1))
    with traced(model) as trace:
        episode = run_episodes(task, agent, [11], [4], [0])[0]
    expected = []
    for t in range(len(episode)):
        one = Episode(
            observations={key: array[t : t + 1] for key, array in episode.observations.items()},
            actions=episode.actions[t : t + 1],
            rewards=episode.rewards[t : t + 1],
        )
        step = encode_episode(codec, one, task)
        scores = whole_pass_scores(model, codec, step.ids, step.local_positions, step.numbers)
        expected.append(scores[step.target_mask[1:]])
    np.testing.assert_allclose(np.concatenate(trace.scores), np.concatenate(expected), atol=1e-9)


def test_restarting_one_row_leaves_the_others_alone(
    make_model: Callable, codec: StepCodec, task: str
) -> None:
    model, prompts = make_model(memory_start="zeros"), demonstrations(task, 2)
    options = {"memory_length": 60, "prompts": prompts}
    env = make_env(task)
    rng = np.random.default_rng(0)
    observations = [env.reset(seed=3)[0]]
    for _ in range(4):
        observations.append(env.step(env.sample_action(rng, observations[-1]))[0])
    agent = Agent(model, codec, batch_size=3, **options)
    agent.reset(np.ones(3, bool))
    for t in range(2):
        agent.act([observations[t]] * 3)
    agent.act([observations[2]] * 2, np.array([0, 2]))
    agent.reset(np.array([True, True, False]), prompt_numbers=[1, 0])
    with traced(model) as trace:
        agent.act([observations[0], observations[0], observations[3]])
    fresh = Agent(model, codec, batch_size=2, **options)
    fresh.reset(np.ones(2, bool), prompt_numbers=[1, 0])
    with traced(model) as fresh_trace:
        fresh.act([observations[0]] * 2)
    steady = Agent(model, codec, batch_size=1, **options)
    steady.reset(np.ones(1, bool), prompt_numbers=[2])
    for t in range(3):
        steady.act([observations[t]])
    with traced(model) as steady_trace:
        steady.act([observations[3]])
    expected = np.concatenate([fresh_trace.scores[0], steady_trace.scores[0]])
    np.testing.assert_allclose(trace.scores[0], expected, atol=1e-9)


def test_sampling_depends_on_the_seed_and_not_on_the_batch(
    make_model: Callable, codec: StepCodec, task: str
) -> None:
    model = make_model()
    options = {"memory_length": 40, "greedy": False, "temperature": 3.0}
    together = Agent(model, codec, batch_size=2, **options)
    both = run_episodes(task, together, [5, 6], [4, 4], [0, 0])
    alone = Agent(model, codec, batch_size=1, **options)
    only = run_episodes(task, alone, [6], [4], [0])[0]
    np.testing.assert_array_equal(both[1].actions, only.actions)
    other = Agent(model, codec, batch_size=1, seed=1, **options)
    different = run_episodes(task, other, [6], [4], [0])[0]
    assert different.actions.tolist() != only.actions.tolist()


def test_action_mask_and_images(make_model: Callable, vocabulary: Vocabulary) -> None:
    spec = StepSpec(
        observation={
            "view": FieldSpec(kind="image", shape=(32, 16, 3)),
            "allowed": FieldSpec(kind="discrete", shape=(5,), num_values=2),
        },
        action=FieldSpec(kind="discrete", num_values=5),
        action_mask="allowed",
    )
    model, rng = make_model(), np.random.default_rng(0)
    codec = StepCodec(spec, vocabulary)

    def observe() -> dict[str, np.ndarray]:
        allowed = np.zeros(5, np.int32)
        allowed[rng.integers(5)] = 1
        return {"view": rng.integers(0, 256, (32, 16, 3), dtype=np.uint8), "allowed": allowed}

    agents = [Agent(model, codec, memory_length=30, batch_size=n) for n in (2, 1)]
    for agent in agents:
        agent.reset(np.ones(agent.batch_size, bool))
    for _ in range(4):
        steps = [observe(), observe()]
        with traced(model) as trace:
            actions = agents[0].act(steps)
            agents[1].act(steps[1:])
        assert [step["allowed"][a] for step, a in zip(steps, actions, strict=True)] == [1, 1]
        np.testing.assert_allclose(trace.scores[0][1], trace.scores[1][0], atol=1e-9)


def test_a_model_that_samples_discrete_actions_and_no_others(
    make_model: Callable, codec: StepCodec, task: str
) -> None:
    observation, _ = make_env(task).reset(seed=5)
    is_discrete = codec.spec.action.kind == "discrete"

    def played(choice: str, greedy: bool, temperature: float = 1.0) -> list[object]:
        model = make_model(discrete_choice=choice, discrete_temperature=temperature)
        agent = Agent(model, codec, memory_length=0, batch_size=1, greedy=greedy, seed=3)
        agent.reset(np.ones(1, bool))
        return [np.asarray(agent.act([observation])[0]).tolist() for _ in range(64)]

    assert played("sampled", True) == played("best", not is_discrete)
    assert (played("sampled", True) != played("best", True)) == is_discrete
    assert played("sampled", True, 1e-6) == played("best", True)
    assert played("sampled", False, 1e-6) == played("best", False), "a caller's own temperature"


def test_probabilities_for_people_who_watch(
    make_model: Callable, codec: StepCodec, task: str
) -> None:
    agent = Agent(make_model(), codec, memory_length=0, batch_size=1, keep_probabilities=True)
    env = make_env(task)
    observation, _ = env.reset(seed=5)
    agent.reset(np.ones(1, bool))
    action = agent.act([observation])[0]
    kept = agent.last_probabilities
    assert kept is not None
    assert kept.shape == (1, codec.num_action_tokens, len(codec.action_ids))
    np.testing.assert_allclose(kept.sum(axis=2), 1, rtol=1e-5)
    best = np.array(codec.action_ids)[kept.argmax(axis=2)].astype(np.int32)
    np.testing.assert_array_equal(codec.decode_action(best)[0], action)
    silent = Agent(make_model(), codec, memory_length=0, batch_size=1)
    silent.reset(np.ones(1, bool))
    assert np.array_equal(silent.act([observation])[0], action)
    assert silent.last_probabilities is None

    middle = Agent(
        make_model(continuous_choice="median"), codec, memory_length=0, batch_size=1,
        keep_probabilities=True,
    )  # fmt: skip
    middle.reset(np.ones(1, bool))
    chosen = middle.act([observation])[0]
    place = kept.argmax(axis=2)
    if codec.spec.action.kind == "continuous":
        place = (middle.last_probabilities.cumsum(axis=2) <= 0.5).sum(axis=2)
    ids = np.array(codec.action_ids)[place].astype(np.int32)
    np.testing.assert_array_equal(codec.decode_action(ids)[0], chosen)


def test_refuses_what_it_cannot_do(make_model: Callable, vocabulary: Vocabulary) -> None:
    spec = make_env(TASKS[0]).step_spec
    codec, model = StepCodec(spec, vocabulary), make_model()
    with pytest.raises(ConfigError, match="memory_length: got -1"):
        Agent(model, codec, memory_length=-1, batch_size=1)
    with pytest.raises(ConfigError, match="prompt_part: got 'middle'"):
        Agent(model, codec, memory_length=1, batch_size=1, prompt_part="middle")
    agent = Agent(model, codec, memory_length=8, batch_size=2)
    with pytest.raises(DataError, match="expected bool"):
        agent.reset(np.array([0, 1]))
    agent.reset(np.array([True, False]))
    observation = {"state": np.zeros(4, np.float32)}
    with pytest.raises(DataError, match="call reset first"):
        agent.act([observation], np.array([1]))
    with pytest.raises(DataError, match="2 observations for 1 rows"):
        agent.act([observation] * 2)
