"""The Procgen suite: frames of known levels, ends, and release of what it opens."""

import hashlib
import os

import numpy as np
import pytest

from db1.suites import SUITES, make_env
from db1.suites.procgen import MODES

if SUITES["procgen"].missing():
    pytest.skip(SUITES["procgen"].missing(), allow_module_level=True)

FIRST_FRAMES = {
    "bigfish-hard": "9eb8e39172b1c043",
    "bossfight-hard": "f0950ed409ecc318",
    "caveflyer-hard": "72fd82f30870b188",
    "chaser-hard": "9647907396107629",
    "climber-hard": "fb2441431384102a",
    "coinrun-hard": "5715570f392093a5",
    "dodgeball-hard": "9c1c4a0e9f20ef80",
    "fruitbot-hard": "b3f06f70cac59de3",
    "heist-easy": "47c23649d98a92d4",
    "jumper-hard": "cde515de6601dae6",
    "leaper-hard": "925a3e216f75200a",
    "maze-easy": "9830d9cb10fc7b8d",
    "miner-hard": "3d5d1bc013ca9d47",
    "ninja-hard": "ae932508b97bc5a7",
    "plunder-hard": "05ce5e0030ae09ba",
    "starpilot-hard": "78a13b01f1571235",
}
"""SHA-256 of the first frame of level 7, recorded with envpool 1.2.5."""


def test_the_list_is_envpools():
    import envpool

    known = set(envpool.list_all_envs())
    names = SUITES["procgen"].task_names()
    assert len(names) == len(set(names)) == 42
    for name in names:
        game, mode = name.split("-")
        assert f"{game.capitalize()}{mode.capitalize()}-v0" in known
    assert [name.split("-")[0] for name in names[:16]] == list(MODES)


@pytest.mark.parametrize("name", FIRST_FRAMES)
def test_first_frames_are_the_recorded_ones(name):
    env = make_env(f"procgen/{name}")
    pixels = env.reset(seed=7)[0]["pixels"]
    env.close()
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == FIRST_FRAMES[name]


def test_time_runs_out_as_truncation_and_success_is_told():
    env = make_env("procgen/maze-easy")
    env.reset(seed=1)
    for _ in range(500):
        _, _, terminated, truncated, info = env.step(4)
    assert (terminated, truncated, info["success"]) == (False, True, False)
    env.close()


def test_random_play_completes_some_levels():
    env = make_env("procgen/maze-easy")
    rng = np.random.default_rng(0)
    successes, rewards = 0, 0.0
    for seed in range(12):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, reward, terminated, truncated, info = env.step(int(rng.integers(15)))
            ended = terminated or truncated
            rewards += reward
        assert info["success"] == (terminated and reward > 0)
        successes += info["success"]
    env.close()
    assert 1 <= successes <= 11
    assert rewards == 10.0 * successes


def test_resets_leave_no_threads_behind():
    env = make_env("procgen/coinrun-hard")
    env.reset(seed=0)
    before = len(os.listdir("/proc/self/task"))
    for seed in range(50):
        env.reset(seed=seed)
    assert len(os.listdir("/proc/self/task")) <= before + 2
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES["procgen"].task_names())
def test_every_mode_starts_and_steps(name):
    env = make_env(f"procgen/{name}")
    first, _ = env.reset(seed=5)
    rng = np.random.default_rng(0)
    moved = False
    for _ in range(30):
        observation, _, terminated, truncated, _ = env.step(env.sample_action(rng, first))
        moved |= not np.array_equal(observation["pixels"], first["pixels"])
        if terminated or truncated:
            break
    env.close()
    assert moved
