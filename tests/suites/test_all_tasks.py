"""Every task that runs here, 50 random steps each: seeds, spaces, ids and back, ends."""

import numpy as np
import pytest

from db1.sequence.step import StepCodec
from db1.suites import make_env, parse_task_id, task_ids
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import Episode
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

pytestmark = pytest.mark.slow
STEPS = 50


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.train(["go to the red ball", "open the door behind you"] * 20, 300)


def play(env, seed):
    """Observations, actions and rewards of up to 50 random steps."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards = [], [], []
    ended = False
    while len(actions) < STEPS and not ended:
        observations.append(observation)
        actions.append(env.sample_action(rng, observation))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        assert not (terminated and truncated)
        assert not truncated or env.max_steps is None or env.num_steps <= env.max_steps
        rewards.append(reward)
        ended = terminated or truncated
    spec = env.step_spec
    columns = {
        key: np.array([o[key] for o in observations], dtype=field.dtype)
        for key, field in spec.observation.items()
    }
    return Episode(
        observations=columns,
        actions=np.array(actions, dtype=spec.action.dtype),
        rewards=np.array(rewards, dtype=np.float32),
    )


def same(left, right):
    pairs = [(left.observations[key], right.observations[key]) for key in left.observations]
    return all(np.array_equal(a, b) for a, b in pairs) and np.array_equal(
        left.rewards, right.rewards
    )


@pytest.mark.parametrize("task_id", task_ids())
def test_task(task_id, tokenizer):
    suite, name = parse_task_id(task_id)
    if (reason := suite.task_missing(name)) is not None:
        pytest.skip(reason)
    env = make_env(task_id)
    try:
        spec = env.step_spec
        episode = play(env, 7)
        assert same(episode, play(env, 7)), "a seed gives one episode"
        episode.check(spec, task_id)
        for key, field in spec.observation.items():
            if field.kind != "text":
                assert env.observation_space[key].contains(episode.observations[key][0])
        vocabulary = Vocabulary(VocabularyConfig(text_size=300))
        codec = StepCodec(spec, vocabulary, tokenizer)
        scalar = ScalarTokenizer(vocabulary.config)
        ids = codec.encode_actions(episode.actions)
        assert ids.min() >= 0
        assert ids.max() < vocabulary.size
        decoded = codec.decode_action(ids)
        if spec.action.kind == "discrete":
            assert np.array_equal(decoded, episode.actions)
        else:
            bin_width = 2.0 / vocabulary.config.num_continuous_bins
            assert np.abs(decoded - episode.actions).max() <= bin_width
        for step in codec.encode_observations(episode.observations):
            assert step.ids.max() < vocabulary.size
            assert step.ids[-1] == vocabulary.separator
        for key, field in spec.observation.items():
            if field.kind == "continuous":
                values = episode.observations[key]
                decoded = scalar.decode_observation(scalar.encode_observation(values))
                again = scalar.encode_observation(decoded)
                assert np.array_equal(again, scalar.encode_observation(values))
    finally:
        env.close()
