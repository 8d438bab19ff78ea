"""Modular bodies: geometry, rewards and falls."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from db1.suites import SUITES, make_env
from db1.suites.modular_bodies import _folder
from db1.suites.modular_rl import FRAME_SKIP, NUMBERS_A_LIMB, TASKS

if SUITES["modular_rl"].missing():
    pytest.skip(SUITES["modular_rl"].missing(), allow_module_level=True)

GLOBAL = [name for name in TASKS if name.startswith(("walker", "hopper"))]


@pytest.mark.parametrize("name", TASKS)
def test_every_body_starts_up_and_steps(name):
    env = make_env(f"modular_rl/{name}")
    observation, _ = env.reset(seed=0)
    limbs = observation["limbs"].reshape(-1, NUMBERS_A_LIMB)
    assert env.is_up()
    assert len(limbs) == env.model.nbody - 1 == int("".join(c for c in name if c.isdigit())[-1])
    assert limbs[0, 0] == 0.0  # the torso's x is left out
    assert (limbs[1:, 12:16].sum(axis=1) <= 1).all()
    assert (limbs[1:, 16] > -0.3).all()
    assert (limbs[1:, 16] < 1.3).all()
    for _ in range(5):
        observation, reward, *_ = env.step(np.zeros(env.action_space.shape, np.float32))
    assert np.isfinite(reward)


@pytest.mark.parametrize("name", GLOBAL)
def test_limbs_lie_where_the_global_drawing_puts_them(name):
    import mujoco

    env = make_env(f"modular_rl/{name}")
    mujoco.mj_resetData(env.model, env.data)
    # The drawing is the pose with every joint at its reference.
    env.data.qpos[:] = env.model.qpos0
    mujoco.mj_forward(env.model, env.data)
    root = ElementTree.parse(_folder() / "xmls" / f"{name}.xml").getroot()
    drawn = {
        g.attrib["name"]: g.attrib["fromto"] for g in root.iter("geom") if "fromto" in g.attrib
    }
    assert len(drawn) == env.model.nbody - 1
    for geom, fromto in drawn.items():
        ends = np.array(fromto.replace("0.13/2", "0.065").split(), float).reshape(2, 3)
        assert env.data.geom(geom).xpos == pytest.approx(ends.mean(axis=0), abs=1e-6)


def test_reward_is_speed_and_what_torques_cost():
    env = make_env("modular_rl/cheetah_7_full")
    env.reset(seed=3)
    action = np.full(6, 0.5, np.float32)
    before = env.data.qpos[0]
    _, reward, terminated, *_ = env.step(action)
    speed = (env.data.qpos[0] - before) / (env.model.opt.timestep * FRAME_SKIP)
    assert reward == pytest.approx(speed - 0.1 * 6 * 0.25)
    assert not terminated


def test_a_fallen_walker_ends_the_episode():
    env = make_env("modular_rl/walker_7_main")
    env.reset(seed=0)
    terminated = False
    rewards = []
    while not terminated and env.num_steps < 500:
        _, reward, terminated, truncated, _ = env.step(np.ones(6, np.float32))
        rewards.append(reward)
        assert not truncated
    assert terminated
    height, angle = env.data.qpos[1:3]
    assert not (0.8 < height < 2.0 and abs(angle) < 1.0)
