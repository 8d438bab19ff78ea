"""The Atari suite against Gymnasium's own pipeline."""

import numpy as np
import pytest

from db1.errors import DataError
from db1.suites import SUITES, make_env
from db1.suites.atari import GAMES, IMAGE_SIZE, REPORTED_GAMES

pytest.importorskip("ale_py", reason="pip install 'db1[atari]'")
pytest.importorskip("cv2", reason="pip install 'db1[atari]'")


def gymnasium_pipeline(game):
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    return AtariPreprocessing(gymnasium.make(f"ALE/{game}-v5", frameskip=1), screen_size=IMAGE_SIZE)


def test_the_list_is_ale_pys():
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    known = {name[4:-3] for name in gymnasium.registry if name.startswith("ALE/")}
    assert set(GAMES) == known
    assert len(GAMES) == len(set(GAMES)) == 104
    assert len(REPORTED_GAMES) == 57


@pytest.mark.parametrize("game", ["Pong", "Breakout", "SpaceInvaders"])
def test_frames_rewards_and_ends_equal_gymnasiums(game):
    ours, theirs = make_env(f"atari/{game}"), gymnasium_pipeline(game)
    rng = np.random.default_rng(0)
    for seed in (3, 4):
        observation, _ = ours.reset(seed=seed)
        screen, _ = theirs.reset(seed=seed)
        rewards = 0.0
        for _ in range(400):
            assert observation["pixels"].shape == (80, 80, 3)
            assert all(np.array_equal(observation["pixels"][..., c], screen) for c in range(3))
            action = int(rng.integers(theirs.action_space.n))
            observation, reward, terminated, truncated, _ = ours.step(action)
            screen, their_reward, *their_ends, _ = theirs.step(action)
            assert (reward, [terminated, truncated]) == (float(their_reward), their_ends)
            rewards += abs(reward)
            if terminated:
                break
        assert rewards > 0
    ours.close()


def test_an_episode_ends_with_the_game():
    env = make_env("atari/Pong")
    env.reset(seed=1)
    total, terminated = 0.0, False
    while not terminated and env.num_steps < 3000:
        _, reward, terminated, truncated, _ = env.step(0)
        total += reward
        assert not truncated
    assert terminated
    assert total == -21.0
    env.close()


def test_a_missing_or_broken_rom_is_named(monkeypatch, tmp_path):
    (tmp_path / "pong.bin").write_bytes(b"no game")
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    for game, rom in (("Pong", "pong.bin"), ("SpaceInvaders", "space_invaders.bin")):
        assert rom in SUITES["atari"].task_missing(game)
        with pytest.raises(DataError, match=rf"{rom}.*pip install --force-reinstall"):
            make_env(f"atari/{game}")
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / "nowhere"))
    assert "nowhere" in SUITES["atari"].task_missing("Pong")
    assert SUITES["tsp"].missing() is None
    monkeypatch.delenv("ALE_ROMS_DIR")
    assert all(SUITES["atari"].task_missing(game) is None for game in GAMES)


def test_versions_name_the_package():
    assert "ale-py" in SUITES["atari"].environment_version("Pong")
