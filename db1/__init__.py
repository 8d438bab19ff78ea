"""db1: a generalist agent in one TransformerXL decoder (text, images, control).

    import db1
    model = db1.load("runs/db1_tiny")
    env = db1.make_env("babyai/GoToRedBallGrey")
    agent = model.agent(env)
    observation, _ = env.reset(seed=2_000_000)
    action = agent.act(observation)

Importing db1 is cheap: what a name needs is imported when it is used first. All tasks are
registered with Gymnasium as `db1/<suite>/<task>`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from db1.registration import register_with_gymnasium

if TYPE_CHECKING:
    from db1.api.acting import Agent
    from db1.api.evaluating import evaluate
    from db1.api.learning import collect, train
    from db1.api.model import Model, load
    from db1.api.stores import open_store
    from db1.suites import make_env, task_ids
    from db1.suites.plugins import load_plugin

__version__ = "0.1.0"

_PLACES = {
    "Agent": "db1.api.acting",
    "Model": "db1.api.model",
    "collect": "db1.api.learning",
    "evaluate": "db1.api.evaluating",
    "load": "db1.api.model",
    "load_plugin": "db1.suites.plugins",
    "make_env": "db1.suites",
    "open_store": "db1.api.stores",
    "task_ids": "db1.suites",
    "train": "db1.api.learning",
}
"""Module of each name of the public face."""

__all__ = [
    "Agent",
    "Model",
    "collect",
    "evaluate",
    "load",
    "load_plugin",
    "make_env",
    "open_store",
    "task_ids",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'db1' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_gymnasium()
