"""Demonstrations: noise, seeds, resuming, references, failures."""

import errno
import json
import multiprocessing

import numpy as np
import pytest

from db1.collection import CollectExecution, CollectRequest, collect, collect_many
from db1.collection.demonstrate import demonstrate
from db1.collection.references import known_references, lasting
from db1.errors import ConfigError, DataError
from db1.experts import make_expert
from db1.json_shape import unseal
from db1.store.append import AppendFiles
from db1.store.episodes import EpisodeStore
from db1.suites import make_env
from db1.suites.scores import measured_of, read_measured
from db1.suites.seeds import check_seed

CART = "classic_control/CartPole-v1"
PENDULUM = "classic_control/Pendulum-v1"
SMALL = {"reference_episodes": 2}


class Recorder:
    """An expert of a fixed action that writes down what was executed."""

    def __init__(self, action):
        self.action = action
        self.executed = []

    def reset(self, env, seed):
        self.executed.clear()

    def act(self, env, observation):
        if env.last_action is not None:
            self.executed.append(env.last_action)
        return self.action


def test_noise_changes_what_is_executed_not_what_is_recorded():
    expert = Recorder(np.array([0.5], dtype=np.float32))
    episode = demonstrate(make_env(PENDULUM), expert, 3, action_noise=0.2)
    executed = np.array(expert.executed)
    assert (episode.actions == 0.5).all() and len(episode) == 200
    assert 0.1 < executed.std() < 0.3 and np.abs(executed).max() <= 1.0
    assert abs(executed.mean() - 0.5) < 0.1


def test_discrete_noise_is_a_probability():
    expert = Recorder(0)
    env = make_env("classic_control/MountainCar-v0")
    episodes = []
    for seed in range(10):
        episodes.append(demonstrate(env, expert, seed, action_noise=0.3))
        assert (episodes[-1].actions == 0).all()
    changed = np.mean(np.array(expert.executed) != 0)
    assert 0.1 < changed < 0.3  # 0.3 times the two thirds that are another action


def test_noise_takes_allowed_actions_only():
    pytest.importorskip("elkai", reason='pip install "db1[tsp]"')
    env, expert = make_env("tsp/uniform20"), make_expert("tsp/uniform20")
    episode = demonstrate(env, expert, 0, action_noise=1.0)
    assert len(episode) == 19
    allowed = np.take_along_axis(episode.observations["unvisited"], episode.actions[:, None], 1)
    assert allowed.all()


def test_without_noise_the_actions_are_executed_and_episodes_repeat():
    env, expert = make_env(PENDULUM), make_expert(PENDULUM)
    first, again = (demonstrate(env, expert, 4, action_noise=0.1) for _ in range(2))
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.observations["state"], again.observations["state"])
    calm = demonstrate(env, expert, 4)
    env.reset(seed=4)
    assert [env.step(a)[1] for a in calm.actions] == pytest.approx(list(calm.rewards))


@pytest.mark.parametrize("noise", [-0.1, 1.5, float("nan")])
def test_impossible_noise_is_refused(noise, tmp_path):
    with pytest.raises(ConfigError, match="action_noise"):
        collect(CART, 1, tmp_path, action_noise=noise, **SMALL)
    assert not (tmp_path / CART / "header.json").exists()


def test_collect_fills_a_store_and_measures_references(tmp_path):
    seen = []
    summary = collect(CART, 3, tmp_path, action_noise=0.1, progress=seen.append, **SMALL)
    store = EpisodeStore(tmp_path / CART)
    assert seen == [0, 1, 2, 3]
    assert store.seeds.tolist() == [0, 1, 2]
    assert store.header.task == CART and store.header.action_noise == 0.1
    assert store.header.expert == "cartpole_lqr"
    assert store.header.environment["id"] == CART
    assert (summary.episodes, summary.new_episodes, summary.steps) == (3, 3, store.num_steps)
    words = json.loads((tmp_path / CART / "instruction.json").read_text())
    assert words == {"text": "balance the pole on the cart", "field": None}
    references, is_whole = unseal(json.loads((tmp_path / CART / "references.json").read_text()))
    assert is_whole and references == summary.references
    assert references["task"] == CART
    assert references["environment"] == dict(store.header.environment)
    known = measured_of(CART, store.header.environment)
    for policy in ("random", "expert"):
        assert references[policy] == lasting(getattr(known, policy))
        assert references[policy]["episodes"] >= 2
        for seed in references[policy]["seeds"]:
            check_seed("reference", seed)
    assert references["random"]["policy"] == "uniform over the action space"
    assert summary.expert_return == 500.0 > summary.random_return


def test_collect_goes_on_where_it_stopped(tmp_path):
    whole = collect(CART, 5, tmp_path / "whole", action_noise=0.2, **SMALL)

    class Interrupted(Exception):
        pass

    def interrupt(done):
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        collect(CART, 5, tmp_path / "parts", action_noise=0.2, progress=interrupt, **SMALL)
    rest = collect(CART, 5, tmp_path / "parts", action_noise=0.2, **SMALL)
    assert (rest.new_episodes, rest.episodes) == (3, 5)
    stores = [EpisodeStore(tmp_path / part / CART) for part in ("whole", "parts")]
    for index in range(5):
        one, other = (store.read(index) for store in stores)
        assert one.seed == other.seed == index
        assert np.array_equal(one.observations["state"], other.observations["state"])
        assert np.array_equal(one.actions, other.actions)
    assert rest.references == whole.references
    enough = collect(CART, 3, tmp_path / "parts", action_noise=0.2, **SMALL)
    assert (enough.new_episodes, enough.episodes) == (0, 5)


def test_references_of_another_version_or_of_fewer_episodes_are_not_taken_over():
    (known,) = [k for k in read_measured(CART) if k.expert is not None]
    first, last = known.expert["seeds"]
    assert known_references(CART, known.environment, last)["expert"]["mean"] == 500.0
    assert known_references(CART, known.environment, last + 1) is None
    assert known_references(CART, {**known.environment, "gymnasium": "0"}, first) is None


def test_references_are_measured_again_when_more_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr("db1.collection.task.known_references", lambda *_: None)
    collect(CART, 1, tmp_path, reference_episodes=2)
    path = tmp_path / CART / "references.json"
    before = path.stat().st_mtime_ns
    collect(CART, 1, tmp_path, reference_episodes=1)
    assert path.stat().st_mtime_ns == before
    more = collect(CART, 1, tmp_path, reference_episodes=3)
    assert more.references["expert"]["episodes"] == 3
    path.write_text("{broken")
    with pytest.raises(DataError, match=r"references\.json: broken references"):
        collect(CART, 1, tmp_path, reference_episodes=3)


def test_another_noise_needs_another_store(tmp_path):
    collect(CART, 1, tmp_path, **SMALL)
    with pytest.raises(DataError, match="action_noise"):
        collect(CART, 2, tmp_path, action_noise=0.1, **SMALL)


def test_bad_requests_are_refused(tmp_path):
    for episodes in (0, -1, 1_000_001):
        with pytest.raises(ConfigError, match="episodes"):
            collect(CART, episodes, tmp_path, **SMALL)
    with pytest.raises(ConfigError, match="no expert"):
        collect("dmc/humanoid-run", 1, tmp_path, **SMALL)


def test_a_full_disk_says_what_is_safe(tmp_path, monkeypatch):
    collect(CART, 2, tmp_path, **SMALL)

    def full(self, path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AppendFiles, "write", full)
    with pytest.raises(DataError, match=r"No space left.*2 episodes.*complete"):
        collect(CART, 4, tmp_path, **SMALL)
    monkeypatch.undo()
    assert collect(CART, 4, tmp_path, **SMALL).episodes == 4


class GivesUp:
    """Has a plan on every so many seeds only."""

    def __init__(self, every):
        self.every = every

    def reset(self, env, seed):
        if seed % self.every:
            raise DataError("no plan")

    def act(self, env, observation):
        return 0


def test_seeds_that_the_expert_gives_up_on_are_counted(tmp_path, monkeypatch):
    import db1.collection.task as task

    collect(CART, 1, tmp_path, **SMALL)
    monkeypatch.setattr(task, "make_expert", lambda task_id: GivesUp(2))
    summary = collect(CART, 3, tmp_path, **SMALL)
    assert summary.given_up == (1, 3)
    assert EpisodeStore(tmp_path / CART).seeds.tolist() == [0, 2, 4]
    monkeypatch.setattr(task, "make_expert", lambda task_id: GivesUp(10**7))
    with pytest.raises(DataError, match="the expert gave up on 11 of 11 seeds"):
        collect(CART, 4, tmp_path, **SMALL)
    assert EpisodeStore(tmp_path / CART).num_episodes == 3


def test_collect_many_goes_on_past_a_failing_task(tmp_path):
    seen = []
    requests = {
        CART: CollectRequest(episodes=2, action_noise=0.1, max_steps=7, reference_episodes=1),
        "babyai/KeyInBox": CollectRequest(episodes=2, reference_episodes=1),
        PENDULUM: CollectRequest(episodes=1, reference_episodes=1),
    }
    summaries, failures = collect_many(
        requests,
        tmp_path,
        CollectExecution(processes=2),
        progress=lambda task, done: seen.append((task, done)),
    )
    assert [summary.task for summary in summaries] == [CART, PENDULUM]
    assert list(failures) == ["babyai/KeyInBox"] and "no expert" in failures["babyai/KeyInBox"]
    assert [done for task, done in seen if task == CART] == [0, 1, 2]
    store = EpisodeStore(tmp_path / CART)
    assert store.header.action_noise == 0.1 and store.header.max_steps == 7
    assert store.lengths.tolist() == [7, 7] and not store.terminations.any()
    with pytest.raises(ConfigError, match="processes"):
        CollectExecution(processes=0)


def test_collect_many_reports_a_process_that_dies(tmp_path):
    others = multiprocessing.active_children()  # of tests that ran before in this process

    def kill(task, done):
        if done:
            for worker in set(multiprocessing.active_children()) - set(others):
                worker.kill()

    summaries, failures = collect_many(
        {CART: CollectRequest(episodes=5000)},
        tmp_path,
        CollectExecution(processes=1, retries=0),
        progress=kill,
    )
    assert summaries == [] and "status -9" in failures[CART]
    stored = EpisodeStore(tmp_path / CART)
    assert 1 <= stored.num_episodes < 5000
    stored.verify()
