"""Contract of every task, as checks that anybody can run on a suite: `db1 tasks check SUITE`.

An evaluation compares policies on the same episodes, several side by side in one process. So a
seed must name an episode, environments must not mix, and what is seen and done must fit the spec.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError, Db1Error
from db1.suites.base import Observation, TaskEnv

STEPS = 30
"""Steps of the episodes that are compared."""
_SEEDS = (3, 7, 11)
_MANY = 6
"""Seeds of which some must differ."""

MakeEnv = Callable[[], TaskEnv]


class BrokenContract(Exception):
    """Violation that a check found."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Outcome of a check of a task.

    Args:
        task: Task id.
        check: Name of the check.
        problem: What is wrong; None: nothing.
    """

    task: str
    check: str
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Some random steps: one observation more than actions."""

    observations: Sequence[Observation]
    actions: Sequence[Any]
    rewards: Sequence[float]


def check_task(task_id: str, make_env: MakeEnv) -> Iterator[CheckResult]:
    """Runs all checks on a task, one after the other.

    Args:
        task_id: Named in the results.
        make_env: Builds the environment.
    """
    try:
        env = make_env()
    except Db1Error as error:
        yield CheckResult(task=task_id, check="can be made", problem=str(error))
        return
    try:
        for name, check in CHECKS.items():
            yield CheckResult(task=task_id, check=name, problem=_problem(check, env, make_env))
    finally:
        env.close()


def random_steps(
    env: TaskEnv, seed: int, num_steps: int = STEPS, action_seed: int | None = None
) -> Trace:
    """Runs some random steps of an episode.

    Args:
        env: The environment.
        seed: Of the episode.
        num_steps: The most steps.
        action_seed: Of the actions; None: `seed`.
    """
    rng = np.random.default_rng(seed if action_seed is None else action_seed)
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards, over = [observation], [], [], False
    while len(actions) < num_steps and not over:
        actions.append(env.sample_action(rng, observations[-1]))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
        _require(isinstance(info.get("success", True), bool), "info['success'] is no bool")
        _require(not (terminated and truncated), "an episode is terminated and truncated at once")
        over = terminated or truncated
    return Trace(observations=observations, actions=actions, rewards=rewards)


def _problem(
    check: Callable[[TaskEnv, MakeEnv], None], env: TaskEnv, make_env: MakeEnv
) -> str | None:
    try:
        check(env, make_env)
    except (BrokenContract, AssertionError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception as error:  # somebody else's environment may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise BrokenContract(problem)


def _same(left: Observation, right: Observation) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def _require_same(left: Trace, right: Trace, what: str) -> None:
    _require(left.rewards == right.rewards, f"{what}: other rewards")
    pairs = zip(left.observations, right.observations, strict=True)
    for step, (one, other) in enumerate(pairs):
        _require(_same(one, other), f"{what}: another observation at step {step}")


def _fits_spec(env: TaskEnv, make_env: MakeEnv) -> None:
    for observation in random_steps(env, _SEEDS[1]).observations:
        keys = sorted(env.step_spec.observation)
        _require(sorted(observation) == keys, f"keys {sorted(observation)}, expected {keys}")
        for key, field in env.step_spec.observation.items():
            field.check(observation[key], f"observation {key!r}")
            if field.kind != "text":
                got = observation[key].dtype
                _require(got == field.dtype, f"{key!r}: dtype {got}, expected {field.dtype}")


def _seed_names_episode(env: TaskEnv, make_env: MakeEnv) -> None:
    first = random_steps(env, _SEEDS[2])
    random_steps(env, _SEEDS[1])
    _require_same(first, random_steps(env, _SEEDS[2]), "the same seed, again")


def _fresh_environment(env: TaskEnv, make_env: MakeEnv) -> None:
    first, other = random_steps(env, _SEEDS[0]), make_env()
    try:
        _require_same(first, random_steps(other, _SEEDS[0]), "the same seed, in a fresh one")
    finally:
        other.close()


def _side_by_side(env: TaskEnv, make_env: MakeEnv) -> None:
    alone, other = random_steps(env, _SEEDS[0]), make_env()
    try:
        observation, _ = env.reset(seed=_SEEDS[0])
        beside, _ = other.reset(seed=_SEEDS[1])
        rng = np.random.default_rng(0)
        for step, (action, reward) in enumerate(zip(alone.actions, alone.rewards, strict=True)):
            _require(_same(observation, alone.observations[step]), f"mixed at step {step}")
            observation, got, *_ = env.step(action)
            _require(got == reward, f"two side by side mix: another reward at step {step}")
            beside, _, terminated, truncated, _ = other.step(other.sample_action(rng, beside))
            if terminated or truncated:
                beside, _ = other.reset(seed=_SEEDS[2])
    finally:
        other.close()


def _seeds_differ(env: TaskEnv, make_env: MakeEnv) -> None:
    traces = [random_steps(env, seed, 2 * STEPS, action_seed=0) for seed in range(_MANY)]
    first = traces[0].observations
    different = sum(
        len(t.observations) != len(first)
        or not all(_same(a, b) for a, b in zip(t.observations, first, strict=True))
        for t in traces[1:]
    )
    _require(
        different > 0,
        f"{_MANY} seeds give one and the same episode: evaluations would play it again and again",
    )


def _refuses_actions(env: TaskEnv, make_env: MakeEnv) -> None:
    field = env.step_spec.action
    env.reset(seed=1)
    shape = field.shape
    if field.kind == "discrete":
        bad = [np.full(shape, -1), np.full(shape, field.num_values), np.zeros((*shape, 2), int)]
    else:
        zeros = np.zeros(shape, np.float32)
        bad = [zeros + 1.01, zeros * np.nan, np.zeros((*shape, 1), np.float32)]
    for action in bad:
        try:
            env.step(action)
        except DataError:
            continue
        raise BrokenContract(f"the action {action.tolist()} outside of its space is taken")


def _ends(env: TaskEnv, make_env: MakeEnv) -> None:
    fresh = make_env()
    try:
        observation, _ = env.reset(seed=1)
        fresh.step(env.sample_action(np.random.default_rng(0), observation))
    except DataError:
        return
    finally:
        fresh.close()
    raise BrokenContract("a step before the first reset is taken")


def _remembers_action(env: TaskEnv, make_env: MakeEnv) -> None:
    observation, _ = env.reset(seed=1)
    action = env.sample_action(np.random.default_rng(0), observation)
    env.step(action)
    _require(np.array_equal(env.last_action, action), "last_action is not what was executed")
    env.reset(seed=1)
    _require(env.last_action is None, "last_action outlives its episode")


def _passes_gymnasium(env: TaskEnv, make_env: MakeEnv) -> None:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)


CHECKS: Mapping[str, Callable[[TaskEnv, MakeEnv], None]] = MappingProxyType(
    {
        "steps fit the spec": _fits_spec,
        "a seed names an episode": _seed_names_episode,
        "so it does in a fresh environment": _fresh_environment,
        "environments side by side do not mix": _side_by_side,
        "other seeds give other episodes": _seeds_differ,
        "wrong actions are refused": _refuses_actions,
        "no step outside an episode": _ends,
        "last_action is the executed one": _remembers_action,
        "Gymnasium's own checker passes": _passes_gymnasium,
    }
)
"""Every check by what it says."""
