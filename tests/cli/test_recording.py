"""`db1 play --record`: keys become actions, episodes become a store."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import db1
from db1.cli.keyboard import Keyboard, describe, key_actions
from db1.cli.main import main
from db1.collection.person import StopPlaying
from db1.errors import ConfigError
from db1.suites import make_env


def test_arrows_and_letters_are_actions() -> None:
    env = make_env("babyai/GoToLocal")
    keys = key_actions(env)
    assert keys["\x1b[D"] == 0 and keys["\x1b[C"] == 1 and keys["\x1b[A"] == 2 and keys["7"] == 6
    assert "up forward" in describe(keys, env)
    keys = key_actions(make_env("classic_control/Pendulum-v1"))
    assert keys["d"] == [1.0] and keys["a"] == [-1.0] and keys[" "] == [0.0]


def test_what_cannot_be_keyed_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected at most 8 for a keyboard"):
        key_actions(make_env("gym/Humanoid-v5")) if _has("mujoco") else key_actions(_wide())
    with pytest.raises(ConfigError, match="20 values a step|values a step"):
        key_actions(make_env("tsp/uniform100"))


def _has(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _wide():
    import gymnasium
    from gymnasium import spaces

    class Wide(gymnasium.Env):
        observation_space = spaces.Box(-1, 1, (1,))
        action_space = spaces.Box(-1, 1, (9,))

    gymnasium.register("Wide-v0", Wide)
    return make_env("gym/Wide-v0")


def test_only_allowed_actions_are_taken() -> None:
    env = make_env("tsp/uniform20")
    observation, _ = env.reset(seed=1)
    actions = key_actions(env)
    mask = observation[env.step_spec.action_mask] * 0
    mask[2] = 1
    allowed = {**observation, env.step_spec.action_mask: mask}
    typed, told = [next(k for k in actions if actions[k] == 1), "?", "3", "."], []
    keyboard = Keyboard(env, lambda: typed.pop(0), told.append)
    assert keyboard.choose(env, allowed) == 2
    assert told[0] == "not allowed here" and told[1].startswith("no action; keys: 1 ")
    with pytest.raises(StopPlaying):
        keyboard.choose(env, observation)


def record(monkeypatch, capsys, out: Path, keys: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(keys))
    task = "classic_control/CartPole-v1"
    arguments = ["db1", "play", "-", task, "--record", str(out), "--show", "lines"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_episodes_of_a_person_are_stored_and_go_on(monkeypatch, capsys, tmp_path: Path) -> None:
    status, said = record(monkeypatch, capsys, tmp_path, "2" * 10 + "\n.")
    assert status == 0 and "1 episodes added, 1 in" in said
    assert "keys: 1 left, 2 right" in said and "episode of" in said
    status, said = record(monkeypatch, capsys, tmp_path, "1" * 11)
    assert status == 0 and "1 episodes added, 2 in" in said
    folder = tmp_path / "classic_control/CartPole-v1"
    store = db1.open_store(folder)
    assert store.header.expert == "person" and store.num_episodes == 2
    assert set(store.read(0).actions) == {1} and set(store.read(1).actions) == {0}
    assert store.seeds.tolist() == [0, 1]
    references = json.loads((folder / "references.json").read_text())
    assert references["expert"]["policy"] == "person"
    assert references["expert"]["mean"] == pytest.approx(store.returns.mean())
    assert references["random"]["episodes"] == 20


def test_leaving_at_once_stores_nothing(monkeypatch, capsys, tmp_path: Path) -> None:
    status, said = record(monkeypatch, capsys, tmp_path, "")
    assert status == 0 and "0 episodes added, 0 in" in said
    assert not (tmp_path / "classic_control/CartPole-v1/references.json").exists()
