"""Every task is an environment of Gymnasium, whichever of the two is imported first."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from db1.suites import SUITES, task_ids

MAKE = "env = gymnasium.make('db1/tsp/uniform20'); env.reset(seed=1); print(env.spec.id)"


@pytest.mark.parametrize(
    "program",
    [
        f"import db1, gymnasium; {MAKE}",
        f"import gymnasium, db1; {MAKE}",
        f"import gymnasium; {MAKE.replace('db1/', 'db1:db1/')}",
    ],
)
def test_the_order_of_imports_does_not_matter(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "db1/tsp/uniform20", done.stderr


def test_importing_db1_is_cheap() -> None:
    program = (
        "import sys, db1\n"
        "heavy = {'torch', 'gymnasium', 'numpy', 'omegaconf'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert set(db1.__all__) <= set(dir(db1))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_all_listed_tasks_are_registered() -> None:
    assert {f"db1/{task}" for task in task_ids()} <= set(gymnasium.registry)
    assert gymnasium.spec("CartPole-v1").id == "CartPole-v1"
    with pytest.raises(gymnasium.error.Error):
        gymnasium.spec("nobody/babyai/GoToLocal")


@pytest.mark.parametrize("suite", [name for name in SUITES if not SUITES[name].is_open])
def test_gymnasium_s_checker_passes(suite: str) -> None:
    name = SUITES[suite].task_names()[0]
    if (reason := SUITES[suite].task_missing(name)) is not None:
        pytest.skip(reason)
    env = gymnasium.make(f"db1/{suite}/{name}", render_mode="rgb_array")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(env.unwrapped, skip_render_check=True)
        assert env.unwrapped.render_mode == "rgb_array"
    finally:
        env.close()


def test_episodes_without_a_seed_follow_from_the_last_seed() -> None:
    env = gymnasium.make("db1/tsp/uniform20")
    env.reset(seed=7)
    first = env.reset()[0]
    env.reset(seed=7)
    again = env.reset()[0]
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != env.reset(seed=7)[0][key]).any() for key in first)
