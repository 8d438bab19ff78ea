"""The planner's rewards and simulations agree with the environments; its plans go somewhere."""

import mujoco
import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.errors import ConfigError
from db1.experts import make_expert
from db1.experts.planner import PlannerExpert
from db1.experts.planning import (
    OBJECTIVES,
    Optimizer,
    PlannerSettings,
    Simulator,
    make_objective,
    settings_of,
)
from db1.experts.planning.kinematics import Kinematics
from db1.experts.uniform import UniformExpert
from db1.suites import SUITES, make_env, parse_task_id, task_ids

BODIES = ("cheetah_4_back", "hopper_4", "humanoid_2d_8_left_knee", "walker_7_main")
TASKS = [
    *(key for key in OBJECTIVES if not key.startswith("modular_rl/")),
    *(f"modular_rl/{body}" for body in BODIES),
]
STEPS = 12


def _env(task_id):
    suite, name = parse_task_id(task_id)
    if suite.task_missing(name):
        pytest.skip(suite.task_missing(name))
    return make_env(task_id)


def _actions(env, samples=1):
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.0, 0.5, (samples, STEPS, *env.step_spec.action.shape))
    return np.clip(drawn, -1.0, 1.0).astype(np.float32)


def _data(env):
    simulator = env.unwrapped.simulator
    if env.task_id.startswith("modular_rl/"):
        return simulator[1]
    return simulator.physics.data.ptr if env.task_id.startswith("dmc/") else simulator.data


def _contact_cost(simulator, leaves_out):
    """What gymnasium subtracts and the planner leaves out."""
    if leaves_out == "contact_cost":
        return simulator.contact_cost
    return min(10.0, 0.5e-6 * np.square(simulator.data.cfrc_ext).sum()) if leaves_out else 0.0


def _lags(env):
    """Whether the reward reads body positions that lag by a part of a physics step."""
    names = ("Ant-v5", "Humanoid-v5", "Reacher-v5", "Pusher-v5", "InvertedDoublePendulum-v5")
    return env.task_id.removeprefix("mujoco/") in names


def _fresh_reward(env, action, before):
    """Gymnasium's own formula, with the body positions that belong to the joint positions."""
    simulator = env.unwrapped.simulator
    mujoco.mj_kinematics(simulator.model, simulator.data)
    ctrl = simulator.data.ctrl.copy()
    if "Pendulum" in env.task_id:
        x, _, y = simulator.data.site_xpos[0]
        return simulator._get_rew(x, y, bool(y <= 1))[0]
    if env.task_id.startswith(("mujoco/Ant", "mujoco/Humanoid")):
        return simulator._get_rew((_forward(env) - before) / simulator.dt, ctrl)[0]
    return simulator._get_rew(ctrl)[0]


def _forward(env):
    simulator = env.unwrapped.simulator
    if "Ant" in env.task_id:
        return simulator.data.body(1).xpos[0]
    masses = simulator.model.body_mass
    return masses @ simulator.data.xipos[:, 0] / masses.sum()


@pytest.mark.parametrize("task_id", TASKS)
def test_states_and_rewards_are_those_of_the_environment(task_id):
    env = _env(task_id)
    env.reset(seed=1)
    objective, actions = make_objective(task_id), _actions(env)
    tried = Simulator(env).try_out(actions)
    rewards, ended = objective.reward(tried)[0], objective.ended(tried)[0]
    for step in range(STEPS):
        before = _forward(env) if task_id.startswith(("mujoco/Ant", "mujoco/Humanoid-")) else 0.0
        _, reward, terminated, _, _ = env.step(actions[0, step])
        np.testing.assert_allclose(tried.qpos[0, step + 1], _data(env).qpos, atol=1e-9)
        if _lags(env):
            assert rewards[step] == pytest.approx(reward, abs=0.3)
            reward = _fresh_reward(env, actions[0, step], before)
        reward += _contact_cost(env.unwrapped.simulator, objective.leaves_out)
        assert rewards[step] == pytest.approx(reward, rel=1e-6, abs=1e-6)
        assert bool(ended[step]) == terminated
        if terminated:
            break
    env.close()


@pytest.mark.parametrize(
    "task_id", ["dmc/quadruped-run", "dmc/fish-swim", "dmc/humanoid-stand", "mujoco/Pusher-v5"]
)
def test_places_are_those_of_mujoco(task_id):
    env = _env(task_id)
    env.reset(seed=2)
    env.step(_actions(env)[0, 0])
    model, data = Simulator(env).model, _data(env)
    mujoco.mj_forward(model, data)
    places = Kinematics(model, data.qpos.copy())
    for body in range(1, model.nbody):
        name = model.body(body).name
        np.testing.assert_allclose(places.body_centre(body), data.xipos[body], atol=1e-12)
        np.testing.assert_allclose(
            places.body_rotation(name).ravel(), data.xmat[body].ravel(), atol=1e-12
        )
    env.close()


def test_a_fall_ends_what_counts():
    env = _env("mujoco/Hopper-v5")
    env.reset(seed=1)
    tried = Simulator(env).try_out(np.zeros((1, 150, 3)))
    objective = make_objective("mujoco/Hopper-v5")
    fall = int(np.flatnonzero(objective.ended(tried)[0])[0])
    counted = (objective.reward(tried) + objective.hint(tried))[0, : fall + 1].sum()
    assert objective.score(tried)[0] == pytest.approx(counted - objective.fall_cost)
    env.close()


def test_threads_and_looking_ahead_change_nothing():
    env = _env("dmc/hopper-hop")
    env.reset(seed=1)
    before = _data(env).qpos.copy(), _data(env).qvel.copy(), _data(env).qacc_warmstart.copy()
    actions = _actions(env, samples=16)
    alone, shared = (Simulator(env, threads=n).try_out(actions) for n in (1, 2))
    assert np.array_equal(alone.qpos, shared.qpos)
    assert np.array_equal(alone.sensors, shared.sensors)
    after = _data(env).qpos, _data(env).qvel, _data(env).qacc_warmstart
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    env.close()


def test_a_coarse_simulation_stays_near_the_fine_one():
    env = _env("mujoco/Walker2d-v5")
    env.reset(seed=1)
    actions = 0.2 * _actions(env)
    fine = Simulator(env).try_out(actions)
    coarse = Simulator(env, coarse=2, euler=True).try_out(actions)
    assert coarse.step_seconds == pytest.approx(fine.step_seconds)
    assert not np.array_equal(coarse.qpos, fine.qpos)
    np.testing.assert_allclose(coarse.qpos, fine.qpos, atol=0.05)
    assert _data(env).time == 0.0 and env.unwrapped.simulator.model.opt.timestep == 0.002
    with pytest.raises(ConfigError, match="coarse 3 does not divide 4 steps"):
        Simulator(env, coarse=3)
    env.close()


def _small(task_id):
    settings = settings_of(task_id)
    return PlannerSettings(
        horizon=12, samples=12, coarse=settings.coarse, euler=settings.euler, fresh_start=2
    )


def _play(env, expert, seed, steps, nudge_at=None):
    observation, _ = env.reset(seed=seed)
    expert.reset(env, seed)
    actions = []
    for step in range(steps):
        actions.append(expert.act(env, observation))
        executed = np.zeros_like(actions[-1]) if step == nudge_at else actions[-1]
        observation, *_ = env.step(executed)
    return np.array(actions)


@pytest.mark.parametrize(
    "task_id", ["dmc/cheetah-run", "mujoco/HalfCheetah-v5", "modular_rl/cheetah_3_back"]
)
def test_episodes_are_functions_of_task_and_seed(task_id):
    env, name = _env(task_id), task_id.split("/")[1]
    first = _play(env, PlannerExpert(name, settings=_small(task_id)), 1, 6)
    expert = PlannerExpert(name, settings=_small(task_id), threads=2)
    _play(env, expert, 2, 3)
    assert np.array_equal(first, _play(env, expert, 1, 6))
    assert not np.array_equal(first, _play(env, expert, 2, 6))
    assert first.dtype == np.float32 and np.abs(first).max() <= 1.0
    env.close()


def test_a_disturbance_is_answered_at_once():
    env = _env("dmc/cheetah-run")
    settings = PlannerSettings(horizon=12, samples=12, replan_steps=6)
    calm = _play(env, PlannerExpert("cheetah-run", settings=settings), 1, 5)
    nudged = _play(env, PlannerExpert("cheetah-run", settings=settings), 1, 5, nudge_at=1)
    assert np.array_equal(calm[:2], nudged[:2])
    assert not np.array_equal(calm[2], nudged[2])
    env.close()


def test_the_optimizer_finds_a_known_sequence():
    goal = np.linspace(-0.8, 0.8, 10)[:, None]
    settings = PlannerSettings(horizon=10, knot_steps=3, samples=32, iterations=3)
    optimizer = Optimizer(settings, 1, np.random.default_rng(0))

    def score(tried):
        return -np.square(tried - goal).sum(axis=(1, 2))

    for _ in range(10):
        best = optimizer.improve(score)
    assert np.abs(best - goal).max() < 0.15


def test_a_sequence_that_diverges_never_wins():
    settings = PlannerSettings(horizon=4, samples=16, knot_steps=1)
    optimizer = Optimizer(settings, 1, np.random.default_rng(0))

    def score(tried):
        worth = tried.sum(axis=(1, 2))
        return np.where(tried[:, 0, 0] > 0.3, np.nan, worth)

    best = optimizer.improve(score)
    assert best[0, 0] <= 0.3 and best.sum() > 0.0


def test_imagined_divergence_is_not_told(caplog):
    env = _env("dmc/finger-spin")
    env.reset(seed=1)
    _data(env).qvel[:] = 1e8
    Simulator(env).try_out(np.ones((1, 3, 2)))
    assert caplog.text == ""
    with pytest.raises(Exception, match="Physics state is invalid"):
        env.step(np.ones(2, np.float32))
    assert "simulation is unstable" in caplog.text, "what is lived through still is"
    env.close()


def test_the_suites_name_the_planner_only_where_it_has_an_objective():
    planned = [
        task_id
        for task_id in task_ids()
        if parse_task_id(task_id)[0].expert_name(parse_task_id(task_id)[1]) == "planner"
    ]
    assert {task_id.split("/")[0] for task_id in planned} == {"dmc", "mujoco", "modular_rl"}
    for task_id in planned:
        make_objective(task_id)


def test_a_task_without_objective_is_refused():
    assert "dog-run" in SUITES["dmc"].task_names()
    with pytest.raises(ConfigError, match="unknown planning objective 'dmc/dog-run'"):
        make_objective("dmc/dog-run")


@pytest.mark.parametrize("task_id", ["dmc/lqr-lqr_2_1", "dmc/lqr-lqr_6_2"])
def test_the_regulator_beats_doing_nothing_and_is_a_best_response(task_id):
    env, returns = _env(task_id), {}
    for scale in (0.0, 0.5, 1.0, 1.5):
        observation, _ = env.reset(seed=1_000_000)
        expert = make_expert(task_id)
        expert.reset(env, 0)
        rewards = []
        for _ in range(400):
            action = np.clip(scale * expert.act(env, observation), -1.0, 1.0)
            observation, reward, *_ = env.step(action)
            rewards.append(reward)
        returns[scale] = sum(rewards)
    assert max(returns, key=returns.get) == 1.0
    env.close()


def test_the_planner_beats_chance_clearly():
    env, expert = _env("mujoco/Reacher-v5"), make_expert("mujoco/Reacher-v5")
    episode = demonstrate(env, expert, 1_000_000)
    assert episode.total_reward > -8.0
    random = demonstrate(env, UniformExpert(), 1_000_000)
    assert random.total_reward < -25.0
    env.close()
