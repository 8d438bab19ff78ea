"""Acting in a batch = acting alone = one pass over the stored episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch

from db1.errors import ConfigError, DataError
from db1.inference.agent import Agent
from db1.inference.ragged import Piece, left_pad
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import encode_episode, instruct, join
from db1.sequence.step import StepCodec, stack_observations
from db1.suites import make_env
from db1.tokens.number_patch import NumberPatches, PatchSizes, concatenate_patches
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER, Vocabulary

TASKS = ["classic_control/CartPole-v1", "classic_control/Pendulum-v1", "babyai/GoToLocal"]
MAX_STEPS = 7


@dataclass
class Trace:
    """What went in and out of the model, by call; `held` is the memory's number of tokens."""

    ids: list[np.ndarray] = field(default_factory=list)
    local_positions: list[np.ndarray] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)


@contextmanager
def traced(model: TransformerXL) -> Iterator[Trace]:
    trace, decode, logits = Trace(), model.decode, model.logits

    def record_decode(ids, positions, images, memory, lengths, numbers):
        trace.ids.append(ids.numpy())
        trace.local_positions.append(positions.numpy())
        trace.held.append(int(memory.num_tokens.max()))
        return decode(ids, positions, images, memory, lengths, numbers)

    def record_logits(hidden, ids=None):
        scores = logits(hidden, ids=ids)
        trace.scores.append(scores.numpy())
        return scores

    model.decode, model.logits = record_decode, record_logits
    try:
        yield trace
    finally:
        del model.decode, model.logits


def run_episodes(
    task: str, agent: Agent, seeds: list[int], stops: list[int], prompt_numbers: list[int]
) -> list[Episode]:
    """Acts in one environment a seed; row i is dropped after `stops[i]` steps at the latest."""
    envs = [make_env(task) for _ in seeds]
    observations = [[env.reset(seed=s)[0]] for env, s in zip(envs, seeds, strict=True)]
    actions: list[list] = [[] for _ in seeds]
    agent.reset(np.ones(len(seeds), bool), seeds=seeds, prompt_numbers=prompt_numbers)
    running = list(range(len(seeds)))
    while running:
        chosen = agent.act([observations[row][-1] for row in running], np.array(running))
        still = []
        for row, action in zip(running, chosen, strict=True):
            observation, _, terminated, truncated, _ = envs[row].step(action)
            actions[row].append(action)
            if not (terminated or truncated or len(actions[row]) >= stops[row]):
                observations[row].append(observation)
                still.append(row)
        running = still
    return [
        Episode(
            observations=stack_observations(rows),
            actions=np.stack(done),
            rewards=np.zeros(len(done), np.float32),
        )
        for rows, done in zip(observations, actions, strict=True)
    ]


def demonstrations(task: str, count: int) -> list[Episode]:
    """Short episodes of different lengths with random actions."""
    env, episodes = make_env(task), []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        observations, actions = [env.reset(seed=seed)[0]], []
        for _ in range(2 + seed):
            actions.append(env.sample_action(rng, observations[-1]))
            observations.append(env.step(actions[-1])[0])
        episodes.append(
            Episode(
                observations=stack_observations(observations[:-1]),
                actions=np.stack(actions),
                rewards=np.zeros(len(actions), np.float32),
            )
        )
    return episodes


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("babyai"):
        pytest.importorskip("minigrid", reason='needs pip install "db1[babyai]"')
    return request.param


@pytest.fixture(params=[1, 4], ids=["numbers", "number_patches"])
def patches(request: pytest.FixtureRequest) -> PatchSizes:
    return PatchSizes(numbers=request.param)


@pytest.fixture
def codec(
    task: str, vocabulary: Vocabulary, tokenizer: TextTokenizer, patches: PatchSizes
) -> StepCodec:
    return StepCodec(make_env(task).step_spec, vocabulary, tokenizer, patches)


@pytest.fixture
def make_model(make_model: Callable, request: pytest.FixtureRequest) -> Callable:
    """Makes models that read the patches of the test's codec."""
    size = request.getfixturevalue("patches").numbers if "patches" in request.fixturenames else 1
    return partial(make_model, number_patch=size)


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


def whole_pass_scores(
    model: TransformerXL,
    codec: StepCodec,
    ids: np.ndarray,
    positions: np.ndarray,
    numbers: NumberPatches | None = None,
) -> np.ndarray:
    """Scores of the action ids behind every token but the last, in one pass without memory."""
    piece = Piece(ids=ids[:-1], local_positions=positions[:-1], numbers=numbers)
    batch = left_pad([piece], codec.vocabulary.separator, codec.patches.image, "cpu")
    hidden, _ = model.decode(
        batch.ids, batch.local_positions, (), model.new_memory(1, 0), numbers=batch.numbers
    )
    return model.logits(hidden[0], ids=codec.action_ids).detach().numpy()


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
    agent = Agent(
        make_model(), codec, memory_length=40, batch_size=1, instruction="go to it " * 30,
        max_instruction=16, override_instruction=True,
    )  # fmt: skip
    with pytest.raises(DataError, match="tokens, expected at most 16; shorten it"):
        run_episodes(task, agent, [11], [1], [0])


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
