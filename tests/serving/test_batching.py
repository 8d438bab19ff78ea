"""Agents that share one forward pass act as they do alone."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import db1
from db1.errors import ConfigError, DataError
from db1.model.memory import Memory
from db1.serving.server import make_service
from db1.serving.sessions import Busy, Service, ServiceConfig, UnknownSession

CARTPOLE, PENDULUM, TOUR = (
    "classic_control/CartPole-v1",
    "classic_control/Pendulum-v1",
    "tsp/uniform20",
)


class Counts:
    """Rows of every pass."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def batch(self, rows: int) -> None:
        self.rows.append(rows)


@pytest.fixture(scope="module")
def model(run: Path) -> db1.Model:
    loaded = db1.load(run, device="cpu")
    loaded.parts.model.double()  # equal whatever the order of sums
    return loaded


def service_of(model: db1.Model, counts: Counts | None = None, **limits: float) -> Service:
    return make_service(model.parts, ServiceConfig(**limits), counts or Counts())


def local_actions(model: db1.Model, task: str, seed: int, steps: int) -> list:
    env = db1.make_env(task)
    agent = model.agent(env)
    agent.reset(seed=seed)
    observation, _ = env.reset(seed=seed)
    actions = []
    for _ in range(steps):
        actions.append(agent.act(observation))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            break
    return actions


def served_actions(service: Service, task: str, seed: int, steps: int, pause: float = 0.0) -> list:
    env = db1.make_env(task)
    session = service.open(task, seed)
    observation, _ = env.reset(seed=seed)
    actions = []
    for _ in range(steps):
        action, _ = service.act(session.id, observation)
        actions.append(action)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
        time.sleep(pause)
    service.close(session.id)
    return actions


def together(work: list) -> list:
    """Runs functions at once, each in a thread."""
    results: list = [None] * len(work)

    def do(number: int) -> None:
        results[number] = work[number]()

    threads = [threading.Thread(target=do, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def test_64_interleaved_sessions_act_bit_equal_to_local_ones(model: db1.Model) -> None:
    tasks = [(CARTPOLE, PENDULUM, TOUR)[n % 3] for n in range(64)]
    expected = [local_actions(model, task, n, 5) for n, task in enumerate(tasks)]
    counts = Counts()
    service = service_of(model, counts)
    try:
        found = together(
            [
                lambda n=n, task=task: served_actions(service, task, n, 5, pause=0.001 * (n % 5))
                for n, task in enumerate(tasks)
            ]
        )
    finally:
        service.stop()
    for one, other in zip(expected, found, strict=True):
        assert len(one) == len(other)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert max(counts.rows) > 8, "sessions are batched"


def test_rows_that_stay_together_are_not_copied(model: db1.Model, monkeypatch) -> None:
    copies = []
    joined = Memory.joined
    monkeypatch.setattr(Memory, "joined", lambda rows: copies.append(len(rows)) or joined(rows))
    service = service_of(model, window=5.0)
    observation, _ = db1.make_env(PENDULUM).reset(seed=1)
    try:
        sessions = [service.open(PENDULUM, n) for n in range(6)]
        for _ in range(5):
            barrier = threading.Barrier(6)

            def act(session, barrier=barrier):
                with service._batcher:
                    barrier.wait()
                    service.act(session.id, observation)

            together([lambda s=s: act(s) for s in sessions])
    finally:
        service.stop()
    assert sum(copies) <= 12


def test_what_ends_is_freed(model: db1.Model) -> None:
    service = service_of(model, idle_seconds=0.2)
    observation, _ = db1.make_env(PENDULUM).reset(seed=1)
    gc.collect()
    before = sum(isinstance(o, Memory) for o in gc.get_objects())
    sessions = [service.open(PENDULUM, n) for n in range(8)]
    for session in sessions:
        service.act(session.id, observation)
    service.close(sessions[0].id)
    with pytest.raises(UnknownSession, match="silent for too long"):
        service.act(sessions[0].id, observation)
    time.sleep(0.3)
    assert service.close_silent() == 7 and len(service) == 0
    del sessions, session
    service.stop()
    gc.collect()
    after = sum(isinstance(o, Memory) for o in gc.get_objects())
    assert after <= before


def test_more_sessions_than_there_is_room_for_are_refused(model: db1.Model) -> None:
    service = service_of(model, max_sessions=2)
    try:
        first = service.open(CARTPOLE)
        service.open(CARTPOLE)
        with pytest.raises(Busy, match="2 sessions are open"):
            service.open(CARTPOLE)
        service.close(first.id)
        with pytest.raises(ConfigError, match="memory_length: got -1"):
            service.open(CARTPOLE, settings={"memory": -1})
        service.open(CARTPOLE)
        assert len(service) == 2
    finally:
        service.stop()


def test_an_error_of_one_session_leaves_the_others_alone(model: db1.Model) -> None:
    service = service_of(model)
    try:
        session, other = service.open(CARTPOLE), service.open(CARTPOLE)
        for bad in ({}, {"state": [1, 2]}, {"state": "x"}, {"state": [[1], [2, 3]]}, 7):
            with pytest.raises(DataError, match="observation"):
                service.act(session.id, bad)
        expected, _ = service.act(other.id, {"state": [0.0, 0.1, 0.0, 0.1]})
        assert service.act(session.id, {"state": np.array([0, 0.1, 0, 0.1])})[0] == expected
        with session.lock, pytest.raises(Busy, match="earlier request"):
            service.act(session.id, {"state": [0.0] * 4})
    finally:
        service.stop()


def test_joined_memories_continue_as_each_does_alone(model: db1.Model) -> None:
    decoder = model.parts.model
    torch.manual_seed(0)
    memories, ids = [], torch.randint(1, 200, (3, 20))
    places = torch.zeros(1, 1, dtype=torch.int64)
    for row, length in enumerate((3, 20, 11)):
        memory = decoder.new_memory(1, 64)
        part = ids[row : row + 1, :length]
        memories.append(decoder.decode(part, places.expand(1, length), (), memory)[1])
    token = torch.tensor([[5], [6], [7]])
    alone = [
        decoder.decode(token[row : row + 1], places, (), memory)[0]
        for row, memory in enumerate(memories)
    ]
    whole, after = decoder.decode(token, places.expand(3, 1), (), Memory.joined(memories))
    assert torch.allclose(whole, torch.cat(alone), atol=1e-12)
    assert after.num_tokens.tolist() == [4, 21, 12]
