"""Experts of one's own: a function, a policy of Stable-Baselines3, an agent in CleanRL's style.

    my_expert:act                  a function (observation -> action) of a module
    my_expert.py:act               of a file
    walker_ppo.zip                 what Stable-Baselines3 saves; its algorithm is recognised
    agent.cleanrl_model@ppo.py:Agent   weights, and the class that CleanRL's single files define

An expert gets the observation as the environment itself gives it and returns the environment's own
action: for `gym/<id>` both are those of the Gymnasium environment, else those of `db1.make_env`,
where a single field comes without its dict. A class is made once, and its `reset()`, where it has
one, is called at the start of every episode.

Saved policies may run code when they are loaded: use those of people you trust.
"""

from __future__ import annotations

import importlib
import inspect
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, Db1Error, MissingExtra, nearest
from db1.suites.base import Observation, TaskEnv
from db1.suites.plugins import import_place

Policy = Callable[[Any], Any]
"""Native observation -> native action."""

EXTRA = "experts"
_ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "stable_baselines3.dqn": "DQN",
        "stable_baselines3.sac": "SAC",
        "stable_baselines3.td3": "TD3",
    }
)
"""Algorithm of a saved policy, by the package of its class; the others share theirs."""


class PolicyExpert:
    """A policy of one's own as the expert of a task.

    Args:
        name: Written into stores and references.
        policy: Who acts.
    """

    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        self._policy = policy

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Tells a policy with a memory that an episode starts."""
        reset = getattr(self._policy, "reset", None)
        if callable(reset):
            reset()

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """See `Expert`.

        Raises:
            ConfigError: When the policy raises, or its action is none of the environment's.
        """
        native = env.native_observation(observation)
        try:
            action = env.from_native_action(self._policy(native))
            return env.check_action(action)
        except DataError as error:
            raise ConfigError(f"expert {self.name}: {error}") from error
        except Db1Error:
            raise
        except Exception as error:  # whatever somebody else's code raises
            raise ConfigError(
                f"expert {self.name}: {type(error).__name__}: {error} in {env.task_id} step "
                f"{env.num_steps}, for an observation {_described(native)}"
            ) from error


def custom_expert(source: str | Policy, env: TaskEnv) -> PolicyExpert:
    """Builds an expert of one's own.

    Args:
        source: A text as in the module's docstring, or the function itself.
        env: The task's environment, whose spaces an agent in CleanRL's style is built for.

    Raises:
        ConfigError: When it is not there or cannot be used.
        MissingExtra: Without stable_baselines3.
    """
    if callable(source):
        return PolicyExpert(_name_of(source), _made(source, _name_of(source)))
    if "@" in source:
        return PolicyExpert(source, _cleanrl_policy(source, env))
    if source.endswith(".zip"):
        return PolicyExpert(source, _sb3_policy(Path(source)))
    return PolicyExpert(source, _made(_attribute(source), source))


def _name_of(function: Policy) -> str:
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}:{kind.__qualname__}"


def _made(found: Any, name: str) -> Policy:
    """The function itself, or an instance of a class."""
    policy = found() if inspect.isclass(found) else found
    if not callable(policy):
        raise ConfigError(f"expert {name}: a {type(policy).__name__}, expected a function")
    return policy


def _attribute(source: str) -> Any:
    """Object that `module:name` or `file.py:name` names."""
    place, colon, name = source.rpartition(":")
    if not colon or not place:
        raise ConfigError(
            f"expert {source!r}: expected module:function, file.py:function, a .zip of "
            "Stable-Baselines3, or WEIGHTS@file.py:Class"
        )
    try:
        module = import_place(place)
    except Db1Error:
        raise
    except Exception as error:  # somebody else's module may raise anything
        raise ConfigError(
            f"expert {source!r}: {place} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(f"expert {source!r}: {place} has no {name!r}{nearest(name, public)}")
    return getattr(module, name)


def _sb3_policy(path: Path) -> Policy:
    """The deterministic policy in a file of Stable-Baselines3."""
    if not path.is_file():
        raise ConfigError(f"expert {path}: no such file")
    try:
        library = importlib.import_module("stable_baselines3")
    except ImportError:
        raise MissingExtra("stable_baselines3", EXTRA, f"expert {path}") from None
    algorithm = _algorithm(path)
    try:
        model = getattr(library, algorithm).load(path, device="cpu")
    except Exception as error:  # it unpickles: anything may be raised
        raise ConfigError(
            f"expert {path}: cannot be loaded as {algorithm} ({type(error).__name__}: {error})"
        ) from error

    def act(observation: Any) -> Any:
        return model.predict(observation, deterministic=True)[0]

    return act


def _algorithm(path: Path) -> str:
    """Name of the algorithm that saved a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        module = str(data["policy_class"]["__module__"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"expert {path}: not saved by Stable-Baselines3 ({error}); expected what model.save() "
            "writes"
        ) from None
    for package, name in _ALGORITHMS.items():
        if module.startswith(package):
            return name
    return "PPO" if "clip_range" in data else "A2C"


def _cleanrl_policy(source: str, env: TaskEnv) -> Policy:
    """Weights in an agent's class: `WEIGHTS@file.py:Class`.

    The class is built as CleanRL's scripts do, from an object with `single_observation_space` and
    `single_action_space`. Of its networks the first of `actor_mean`, `actor` and `q_network`, else
    itself, gives the action: numbers, or the largest score.
    """
    import torch

    weights, _, place = source.partition("@")
    kind = _attribute(place)
    if not Path(weights).is_file():
        raise ConfigError(f"expert {source}: no file {weights}")
    inner = env.simulator if hasattr(env.simulator, "observation_space") else env
    spaces = SimpleNamespace(
        single_observation_space=inner.observation_space, single_action_space=inner.action_space
    )
    try:
        agent = kind(spaces)
        agent.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # a class and a file of somebody else
        raise ConfigError(
            f"expert {source}: the weights do not fit the class ({type(error).__name__}: {error})"
        ) from error
    agent.eval()
    names = ("actor_mean", "actor", "q_network")
    network = next((getattr(agent, name) for name in names if hasattr(agent, name)), agent)
    low = getattr(inner.action_space, "low", None)

    def act(observation: Any) -> Any:
        batch = torch.as_tensor(np.asarray(observation, np.float32))[None]
        with torch.no_grad():
            scores = network(batch)[0].numpy()
        if low is None:
            return int(scores.argmax())
        return np.clip(scores, low, inner.action_space.high)

    return act


def _described(observation: Any) -> str:
    if isinstance(observation, Mapping):
        return f"of keys {sorted(observation)}"
    return f"{type(observation).__name__} of shape {np.shape(observation)}"
