"""A loaded model acts, writes, describes and answers from Python."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

import db1
from db1.errors import ConfigError, DataError
from db1.store.episodes import EpisodeWriter, StoreHeader

CARTPOLE, PENDULUM = "classic_control/CartPole-v1", "classic_control/Pendulum-v1"


@pytest.fixture(scope="module")
def model(run: Path) -> db1.Model:
    loaded = db1.load(run, device="cpu")
    loaded.parts.model.double()
    return loaded


def play(model: db1.Model, task: str, seed: int, steps: int = 12) -> tuple[list, float]:
    """Actions and return of the first steps of an episode."""
    env = db1.make_env(task)
    agent = model.agent(env)
    observation, _ = env.reset(seed=seed)
    actions, total = [], 0.0
    while len(actions) < steps:
        actions.append(agent.act(observation))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        total += reward
        if terminated or truncated:
            break
    return actions, total


def test_what_it_is(model: db1.Model, run: Path) -> None:
    assert model.folder == run and model.checkpoint == "step-00000001"
    assert CARTPOLE in model.tasks and str(run) in repr(model)
    assert db1.load(run, random_weights=True).checkpoint is None


def test_an_agent_plays_the_episodes_of_an_evaluation(model: db1.Model, run: Path) -> None:
    results = db1.evaluate(
        run, [CARTPOLE], episodes=3, precision="float64", pairs=None, data="nowhere"
    )
    entry = results["tasks"][CARTPOLE]
    assert results["failures"] == {} and CARTPOLE in results["missing_prompts"]
    played = [play(model, CARTPOLE, seed, 500)[1] for seed in entry["seeds"]]
    assert played == entry["returns"]


def test_a_batch_acts_as_its_rows_do_alone(model: db1.Model) -> None:
    seeds = [2_000_000, 2_000_001, 2_000_002]
    alone = [play(model, PENDULUM, seed)[0] for seed in seeds]
    envs = [db1.make_env(PENDULUM) for _ in seeds]
    agent = model.agent(PENDULUM, batch_size=3)
    observations = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    for step in range(12):
        actions = agent.act(observations)
        assert agent.probabilities.shape == (3, 1, 64)
        for row, action in enumerate(actions):
            assert np.array_equal(action, alone[row][step])
        observations = [env.step(a)[0] for env, a in zip(envs, actions, strict=True)]


def test_reset_forgets_the_episode(model: db1.Model) -> None:
    env = db1.make_env(PENDULUM)
    agent = model.agent(env)
    first = []
    for _ in range(2):
        observation, _ = env.reset(seed=5)
        agent.reset()
        first.append([])
        for _ in range(6):
            first[-1].append(agent.act(observation))
            observation, *_ = env.step(first[-1][-1])
    assert np.array_equal(first[0], first[1])


def test_any_environment_of_gymnasium_gets_its_own_actions(model: db1.Model) -> None:
    env = gymnasium.make("Pendulum-v1")
    own, native = model.agent(PENDULUM), model.agent(env)
    observation, _ = env.reset(seed=1)
    for _ in range(5):
        action = native.act(observation)
        assert env.action_space.contains(action)
        assert np.allclose(action, 2.0 * own.act({"state": observation}))
        assert native.probabilities.shape == (1, 64)
        assert native.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
        observation, *_ = env.step(action)


def test_sampling_follows_from_its_seed(model: db1.Model) -> None:
    env = db1.make_env("tsp/uniform20")
    observation, _ = env.reset(seed=3)
    tours = {}
    for seed in (1, 1, 2, 3):
        agent = model.agent(env, greedy=False, temperature=5.0, seed=seed)
        tours.setdefault(seed, []).append([agent.act(observation) for _ in range(6)])
    assert tours[1][0] == tours[1][1] and len({str(t[0]) for t in tours.values()}) > 1


def test_prompts_come_from_episodes_or_a_store(model: db1.Model, tmp_path: Path) -> None:
    db1.collect(PENDULUM, tmp_path, episodes=3, max_steps=15, reference_episodes=1)
    store = db1.open_store(tmp_path / PENDULUM)
    env = db1.make_env(PENDULUM)
    observation, _ = env.reset(seed=1)
    best = store.read(int(np.argmax(store.returns)))
    given = [model.agent(env, prompts=p) for p in ([best], store, tmp_path / PENDULUM)]
    probabilities = []
    for agent in given:
        agent.act(observation)
        probabilities.append(agent.probabilities)
    bare = model.agent(env)
    bare.act(observation)
    assert all(np.array_equal(probabilities[0], other) for other in probabilities[1:])
    assert not np.allclose(probabilities[0], bare.probabilities)
    with pytest.raises(DataError, match="prompt 0"):
        model.agent("tsp/uniform20", prompts=[best])
    with pytest.raises(DataError, match="another step"):
        model.agent("tsp/uniform20", prompts=store)


@pytest.mark.parametrize(
    "observation, message",
    [
        ({"state": np.zeros(3)}, "shape"),
        ({"other": np.zeros(4)}, "expected a dict with the keys"),
        (np.zeros(4), "expected a dict with the keys"),
        ({"state": np.full(4, np.nan)}, "not finite"),
    ],
)
def test_a_foreign_observation_is_one_clear_error(
    model: db1.Model, observation: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        model.agent(CARTPOLE).act(observation)


def test_it_writes(model: db1.Model) -> None:
    text = model.generate("Look", max_tokens=8, seed=4)
    assert text == model.generate("Look", max_tokens=8, seed=4)
    greedy = model.generate("Look", max_tokens=8, temperature=0)
    assert greedy == model.generate("Look", max_tokens=8, temperature=0, seed=9)


def test_it_sees_images_however_they_are_given(model: db1.Model, tmp_path: Path) -> None:
    pixels = np.zeros((48, 40, 3), np.uint8)
    pixels[10:30, 10:30] = (255, 0, 0)
    image = Image.fromarray(pixels)
    path = tmp_path / "square.png"
    image.save(path)
    captions = [
        model.caption(given, max_tokens=6)
        for given in (pixels, image, path, str(path), path.read_bytes())
    ]
    assert len(set(captions)) == 1
    answer = model.answer(pixels, "which colour?", answers=["red", "blue"])
    assert answer in ("red", "blue")
    assert isinstance(model.answer(pixels, "which colour?", max_tokens=3), str)
    for bad, message in ((pixels[:, :, 0], "expected uint8"), (b"no image", "image"), (3, "a int")):
        with pytest.raises(DataError, match=message):
            model.caption(bad)
    with pytest.raises(DataError, match="cannot be read"):
        model.caption(tmp_path / "nothing.png")


def test_settings_of_an_evaluation_are_checked(run: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'promt'.*did you mean 'prompt'"):
        db1.evaluate(run, [CARTPOLE], promt=False)
    with pytest.raises(ConfigError, match="unknown task"):
        db1.evaluate(run, ["tsp/nothing"])


def test_names_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Path) -> None:
    from db1.checkpoint import hub, shipped

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "site" / "db1")
    expected = r"base: this copy of db1 does not include the model.*models/db1_base"
    with pytest.raises(ConfigError, match=expected):
        db1.load("base")
    place = tmp_path / "site" / "db1" / "models" / "db1_base"
    place.parent.mkdir(parents=True)
    place.symlink_to(run)
    assert db1.load("base").checkpoint == "step-00000001"
    assert hub.results_folder(place) == Path("runs/db1_base")
    assert hub.results_folder(run) == run
    (tmp_path / "base").symlink_to(run)
    assert hub.resolve_model_name("base") == Path("base")
    with pytest.raises(ConfigError, match="expected hf://user/name"):
        db1.load("hf://nobody")
    with pytest.raises(ConfigError, match="no model here"):
        db1.load("nowhere")


def test_stores_of_every_kind_open(tmp_path: Path) -> None:
    spec = db1.make_env(CARTPOLE).step_spec
    with EpisodeWriter(tmp_path / "episodes", StoreHeader(task="a/b", spec=spec)):
        pass
    assert db1.open_store(tmp_path / "episodes").num_episodes == 0
    with pytest.raises(DataError, match="no store, expected a folder with header.json"):
        db1.open_store(tmp_path)
