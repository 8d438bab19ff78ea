"""What every task of every suite must keep, run over a sample of each suite's tasks."""

import numpy as np
import pytest

from db1.errors import DataError
from db1.suites import SUITES, make_env, parse_task_id, task_ids
from db1.tokens.spec import Episode

SAMPLE_TASKS = {
    "atari": ["Pong", "Amidar", "MontezumaRevenge"],
    "babyai": ["GoToRedBallGrey", "GoToObjS6", "BossLevel", "PutNextS5N2Carrying"],
    "classic_control": [
        "CartPole-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
    ],
    "dmc": [
        "cartpole-balance",
        "point_mass-easy",
        "manipulator-bring_ball",
        "lqr-lqr_2_1",
        "quadruped-walk",
        "cartpole-balance-pixels",
    ],
    "gym": [
        "CartPole-v1",
        "Pendulum-v1",
        "Blackjack-v1",
        "minigrid:MiniGrid-DoorKey-5x5-v0",
        "gymnasium_robotics:FetchReach-v4",
    ],
    "metaworld": ["reach-v3", "drawer-close-v3", "pick-place-v3"],
    "miniworld": ["Hallway", "MazeS3", "Sign"],
    "modular_rl": ["cheetah_2_back", "walker_7_main", "humanoid_2d_9_full", "hopper_3"],
    "minigrid": ["DoorKey-8x8-v0", "Dynamic-Obstacles-6x6-v0", "ObstructedMaze-Full-v1"],
    "mujoco": ["Hopper-v5", "Pusher-v5", "HumanoidStandup-v5"],
    "procgen": ["coinrun-hard", "maze-easy", "jumper-memory"],
    "robotics": ["FetchPickAndPlace-v4", "AntMaze_UMaze-v5", "AdroitHandPen-v1"],
    "sokoban": ["generated", "boxoban-unfiltered"],
    "tsp": ["uniform20", "uniform100", "tsp100-0", "tsp200-99", "city200-0"],
    "vizdoom": ["Basic", "Deathmatch", "Freedoom1E1M1"],
}
MAX_TOKENS_A_STEP = 512


def sampled(suite_name):
    """Up to six tasks of a suite; a suite added later is tested without naming its tasks here."""
    return SAMPLE_TASKS.get(suite_name) or SUITES[suite_name].task_names()[:3]


TASK_IDS = [f"{name}/{task}" for name in SUITES for task in sampled(name)]


@pytest.fixture(params=TASK_IDS, scope="module")
def env(request):
    module, colon, _ = request.param.partition("/")[2].partition(":")
    if colon:
        pytest.importorskip(module)
    suite, task_name = parse_task_id(request.param)
    reason = suite.task_missing(task_name)
    if reason is not None:
        pytest.skip(reason)
    env = make_env(request.param)
    yield env
    env.close()


def rollout(env, seed, num_steps, action_seed=None):
    """Observations, actions, rewards and the last flags of some random steps."""
    rng = np.random.default_rng(seed if action_seed is None else action_seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, terminated, truncated = [observation], [], [], False, False
    while len(actions) < num_steps and not (terminated or truncated):
        actions.append(env.sample_action(rng, observations[-1]))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
        assert isinstance(info.get("success", True), bool)
        assert not (terminated and truncated)
    return observations, actions, rewards


def same(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_steps_fit_the_spec(env):
    observations, actions, rewards = rollout(env, 7, 30)
    spec = env.step_spec
    columns = {
        key: np.array([o[key] for o in observations[:-1]], dtype=field.dtype)
        for key, field in spec.observation.items()
    }
    Episode(
        observations=columns,
        actions=np.array(actions, dtype=spec.action.dtype),
        rewards=np.array(rewards, dtype=np.float32),
    ).check(spec, env.task_id)
    for observation in observations:
        for key, field in spec.observation.items():
            field.check(observation[key], key)
            if field.kind == "text":
                assert observation[key].strip()
            else:
                assert observation[key].dtype == field.dtype


def test_a_seed_names_an_episode(env):
    first, actions, rewards = rollout(env, 11, 10)
    rollout(env, 12, 10)
    again, actions_again, rewards_again = rollout(env, 11, 10)
    assert all(np.array_equal(a, b) for a, b in zip(actions, actions_again, strict=True))
    assert rewards == rewards_again
    assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_frames_can_be_watched(env):
    """Drawing gives a picture, and leaves the episode as it is."""
    unseen, actions, _ = rollout(env, 5, 4)
    observation, _ = env.reset(seed=5)
    for action, expected in zip(actions, unseen[1:], strict=True):
        try:
            frame = env.render_frame()
        except DataError as error:
            pytest.skip(str(error))
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        assert min(frame.shape[:2]) >= 48 and len(np.unique(frame)) > 1
        observation, *_ = env.step(action)
        assert same(observation, expected)
    names = env.action_names()
    assert names is None or len(names) == env.step_spec.action.num_values


def test_a_fresh_environment_gives_the_same_episode(env):
    observations, _, rewards = rollout(env, 3, 5)
    other = make_env(env.task_id)
    try:
        again, _, rewards_again = rollout(other, 3, 5)
    finally:
        other.close()
    assert rewards == rewards_again
    assert all(same(a, b) for a, b in zip(observations, again, strict=True))


def test_environments_beside_each_other_do_not_mix(env):
    """Evaluation plays several episodes at once in one process."""
    observations, _, rewards = rollout(env, 3, 4)
    other = make_env(env.task_id)
    rng, found = np.random.default_rng(3), []
    try:
        observation, _ = env.reset(seed=3)
        beside, _ = other.reset(seed=4)
        for reward in rewards:
            found.append(observation)
            observation, again, *_ = env.step(env.sample_action(rng, observation))
            assert again == reward
            beside, *ends, _ = other.step(other.sample_action(np.random.default_rng(4), beside))
            if ends[1] or ends[2]:
                beside, _ = other.reset(seed=5)
        found.append(observation)
    finally:
        other.close()
    assert all(same(a, b) for a, b in zip(observations, found, strict=True))


def test_other_seeds_give_other_episodes(env):
    """Within 60 steps of the same actions; some Atari games start with the same screen."""
    episodes = [rollout(env, seed, 60, action_seed=0)[0] for seed in range(6)]
    different = sum(
        len(episode) != len(episodes[0])
        or not all(same(a, b) for a, b in zip(episode, episodes[0], strict=True))
        for episode in episodes[1:]
    )
    assert different >= 4


def test_space_and_spec_agree(env):
    observation, _ = env.reset(seed=1)
    assert env.action_space.contains(env.sample_action(np.random.default_rng(0), observation))
    assert set(env.observation_space.spaces) == set(env.step_spec.observation)
    for key, field in env.step_spec.observation.items():
        if field.kind != "text":
            assert env.observation_space[key].contains(observation[key])


def test_outside_actions_are_refused(env):
    field = env.step_spec.action
    env.reset(seed=1)
    if field.kind == "discrete":
        bad = [-1, field.num_values, 0.5, np.zeros(2, dtype=np.int32)]
    else:
        zeros = np.zeros(field.shape, dtype=np.float32)
        bad = [zeros + 1.01, zeros - 2, zeros * np.nan, np.zeros((*field.shape, 1))]
    for action in bad:
        with pytest.raises(DataError, match=env.task_id):
            env.step(action)
    env.step(env.sample_action(np.random.default_rng(0), env.reset(seed=1)[0]))


def test_no_step_outside_an_episode(env):
    fresh = make_env(env.task_id)
    action = env.sample_action(np.random.default_rng(0), env.reset(seed=1)[0])
    try:
        with pytest.raises(DataError, match="reset"):
            fresh.step(action)
        with pytest.raises(DataError, match="seed"):
            fresh.reset(seed=-1)
    finally:
        fresh.close()


def test_last_action_is_the_executed_one(env):
    observation, _ = env.reset(seed=1)
    assert env.last_action is None
    action = env.sample_action(np.random.default_rng(0), observation)
    env.step(action)
    assert np.array_equal(env.last_action, action)
    env.reset(seed=1)
    assert env.last_action is None


def test_a_step_fits_a_sequence(env):
    spec = env.step_spec
    numbers = sum(f.size for f in spec.observation.values() if f.kind not in ("text", "image"))
    assert numbers + 1 + spec.action.size <= MAX_TOKENS_A_STEP


@pytest.mark.parametrize(
    "task_id",
    ["classic_control/CartPole-v1", "classic_control/Pendulum-v1", "tsp/uniform20", "tsp/tsp100-3"],
)
def test_episodes_end_at_the_horizon_at_the_latest(task_id):
    env = make_env(task_id)
    suite, task_name = parse_task_id(task_id)
    _, actions, _ = rollout(env, 5, 10_000)
    assert len(actions) <= env.max_steps == suite.horizon(task_name)
    assert str(env.max_steps) == suite.environment_version(task_name)["horizon"]
    if "CartPole" not in task_id:
        assert len(actions) == env.max_steps
    with pytest.raises(DataError, match="reset"):
        env.step(actions[-1])


CLOSED = [name for name in SUITES if not SUITES[name].is_open]


@pytest.mark.parametrize("suite_name", CLOSED)
def test_every_task_is_listed_once_and_parses(suite_name):
    names = SUITES[suite_name].task_names()
    assert names and len(set(names)) == len(names)
    ids = task_ids(suite_name)
    assert ids == [f"{suite_name}/{name}" for name in names]
    suite, task_name = parse_task_id(ids[-1])
    assert suite is SUITES[suite_name] and task_name == names[-1]
    assert set(ids) <= set(task_ids())


@pytest.mark.parametrize("suite_name", CLOSED)
def test_environment_version_names_the_task_and_its_packages(suite_name):
    suite = SUITES[suite_name]
    name = suite.task_names()[0]
    if suite.task_missing(name):
        pytest.skip(suite.task_missing(name))
    version = suite.environment_version(name)
    assert version["id"] == f"{suite_name}/{name}"
    assert set(suite.packages.values()) <= set(version)
    assert all(isinstance(value, str) for value in version.values())
