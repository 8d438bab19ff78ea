"""What is special to single suites: their lists, limits, rewards and rescaled actions."""

import ctypes.util
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from db1.errors import DataError
from db1.runtime import RENDERERS
from db1.suites import SUITES, make_env


def needs(suite_name):
    reason = SUITES[suite_name].missing()
    if reason:
        pytest.skip(reason)


def test_metaworld_has_exactly_the_tasks_of_the_package():
    needs("metaworld")
    from metaworld.env_dict import ENV_CLS_MAP

    assert set(SUITES["metaworld"].task_names()) == set(ENV_CLS_MAP)


def test_metaworld_shows_the_goal_and_seeds_move_it():
    needs("metaworld")
    env = make_env("metaworld/reach-v3")
    goals = []
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert np.allclose(observation["state"][-3:], env.simulator._target_pos, atol=1e-6)
        assert info["success"] is False
        goals.append(observation["state"][-3:])
    assert len(np.unique(np.round(goals, 4), axis=0)) == 5
    observation, *_ = env.step(np.ones(4))
    assert np.allclose(observation["state"][-3:], goals[-1])


def test_metaworld_environments_are_cheap_to_make_and_independent():
    needs("metaworld")
    first = make_env("metaworld/reach-v3")
    started = time.perf_counter()
    others = [make_env("metaworld/reach-v3") for _ in range(5)]
    assert (time.perf_counter() - started) / 5 < 0.5
    first.reset(seed=1)
    wanted = [first.step(np.ones(4) * 0.1)[0]["state"] for _ in range(5)]
    for number, env in enumerate(others):
        env.reset(seed=number)
        env.step(-np.ones(4))
    others[0].reset(seed=1)
    found = [others[0].step(np.ones(4) * 0.1)[0]["state"] for _ in range(5)]
    assert np.array_equal(wanted, found)


@pytest.mark.parametrize("task", ["reach-v3", "drawer-open-v3", "peg-insert-side-v3"])
def test_metaworld_returns_equal_the_plain_environments(task):
    """The package's own class, built by itself and with the same goal shown."""
    needs("metaworld")
    from metaworld.env_dict import ENV_CLS_MAP

    plain = ENV_CLS_MAP[task]()
    plain._partially_observable = False
    plain.__dict__.pop("sawyer_observation_space", None)  # made while the goal was hidden
    plain._freeze_rand_vec = False
    plain.seeded_rand_vec = True
    plain._set_task_called = True
    plain.seed(5)
    state, _ = plain.reset()
    env, rng = make_env(f"metaworld/{task}"), np.random.default_rng(0)
    observation, _ = env.reset(seed=5)
    for _ in range(100):
        assert np.array_equal(observation["state"], state.astype(np.float32))
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        observation, reward, *_, info = env.step(action)
        state, their_reward, *_, their_info = plain.step(action)
        assert reward == their_reward and info["success"] == bool(their_info["success"])


def test_metaworld_runs_its_500_steps_and_no_more():
    needs("metaworld")
    env = make_env("metaworld/reach-v3")
    env.reset(seed=1)
    flags = [env.step(np.zeros(4))[2:4] for _ in range(500)]
    assert not any(terminated for terminated, _ in flags)
    assert [truncated for _, truncated in flags] == [False] * 499 + [True]
    with pytest.raises(DataError, match="reset"):
        env.step(np.zeros(4))


def test_babyai_has_exactly_the_levels_of_the_package():
    needs("babyai")
    import gymnasium
    import minigrid  # noqa: F401

    from db1.suites.babyai import gym_id

    listed = {gym_id(level) for level in SUITES["babyai"].task_names()}
    assert listed == {name for name in gymnasium.registry if name.startswith("BabyAI-")}


def test_babyai_step_limit_truncates():
    needs("babyai")
    env = make_env("babyai/GoToObjS4")
    observation, _ = env.reset(seed=0)
    mission, steps, truncated = observation["mission"], 0, False
    while not truncated:
        observation, reward, terminated, truncated, info = env.step(6)
        steps += 1
        assert observation["mission"] == mission and reward == 0.0
        assert not terminated and info["success"] is False
    assert steps == env.simulator.max_steps


def test_dmc_has_exactly_the_tasks_of_the_package():
    needs("dmc")
    from dm_control import suite

    names = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]
    listed = SUITES["dmc"].task_names()
    assert sorted(listed) == sorted([*names, *(f"{name}-pixels" for name in names)])


def test_dmc_actions_are_rescaled_to_the_actuators():
    needs("dmc")
    env = make_env("dmc/quadruped-walk")
    bounds = env.simulator.action_spec()
    assert bounds.maximum.max() > 1.0
    env.reset(seed=0)
    for value, wanted in ((1.0, bounds.maximum), (-1.0, bounds.minimum)):
        env.step(np.full(12, value))
        assert np.allclose(env.simulator.physics.control(), wanted)


def test_dmc_lqr_ends_and_takes_forces_as_they_are():
    needs("dmc")
    env = make_env("dmc/lqr-lqr_2_1")
    env.reset(seed=0)
    env.step(np.array([0.5]))
    assert np.allclose(env.simulator.physics.control(), 0.5)
    assert env.max_steps == 1000


def test_dmc_pixels_follow_the_state():
    suite = SUITES["dmc"]
    reason = suite.task_missing("cartpole-balance-pixels")
    if reason:
        pytest.skip(reason)
    env = make_env("dmc/cartpole-balance-pixels")
    start = env.reset(seed=0)[0]["pixels"]
    assert start.shape == (64, 64, 3) and start.dtype == np.uint8 and start.std() > 5
    for _ in range(40):
        observation, *_ = env.step(np.ones(1))
    assert (observation["pixels"] != start).mean() > 0.01


def test_pixel_tasks_say_what_is_missing(monkeypatch):
    needs("dmc")
    import db1.suites.dmc as dmc

    monkeypatch.setattr(dmc, "render_failure", lambda: "no display")
    for task in ("cartpole-balance-pixels", "quadruped-escape"):
        with pytest.raises(
            DataError, match=r"no display.*MUJOCO_GL=egl or osmesa.*apt-get install"
        ):
            make_env(f"dmc/{task}")
    assert SUITES["dmc"].task_missing("cartpole-balance") is None


@pytest.mark.slow
@pytest.mark.parametrize("renderer", RENDERERS)
def test_pixels_come_from_either_renderer(renderer):
    """In a process of its own, as MuJoCo settles it when it is loaded."""
    needs("dmc")
    if ctypes.util.find_library(RENDERERS[renderer]) is None:
        pytest.skip(f"no {RENDERERS[renderer]} here: apt-get install -y libegl1 libosmesa6")
    draw = (
        "from db1.suites import make_env\n"
        "env = make_env('dmc/cartpole-balance-pixels')\n"
        "print(env.reset(seed=0)[0]['pixels'].std())\n"
    )
    kept = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    done = subprocess.run(
        [sys.executable, "-c", draw],
        env=kept | {"MUJOCO_GL": renderer},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 5


def test_pendulum_torque_is_rescaled():
    env = make_env("classic_control/Pendulum-v1")
    env.reset(seed=0)
    env.step(np.array([0.5]))
    assert env.simulator.last_u == pytest.approx(1.0)


def test_goal_tasks_know_success():
    car = make_env("classic_control/MountainCar-v0")
    assert car.reset(seed=0)[1] == {"success": False}
    pole = make_env("classic_control/CartPole-v1")
    assert pole.reset(seed=0)[1] == {}
