"""The sessions of a policy server: one episode each, with an agent and a memory of its own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from db1.errors import DataError, Db1Error
from db1.options import option
from db1.ranges import Checked, Count, NonNegative, Range
from db1.serving.batching import WINDOW, BatchedModel, Batcher
from db1.tokens.spec import FieldSpec, StepSpec

MakeAgent = Callable[..., Any]
"""(model, task id, spec, settings of the session) -> an agent with `reset` and `act`."""


class Busy(Db1Error):
    """The server has as many sessions as it may have, or the session is at work already."""


class UnknownSession(Db1Error):
    """There is no such session: it never was, ended, or was silent for too long."""


@dataclass(frozen=True, kw_only=True)
class ServiceConfig(Checked):
    """Limits of a server.

    Args:
        max_sessions: At once; more are refused.
        idle_seconds: A session that is silent for so long ends, and its memory is freed.
        window: Seconds that a forward pass waits for further sessions.
        max_rows: The most sessions in one pass.
    """

    max_sessions: Count = option(64, "Most sessions at once.")
    idle_seconds: Annotated[float, Range(least=0.1)] = option(
        300.0, "Seconds after which an idle session ends.", name="idle"
    )
    window: NonNegative = WINDOW
    max_rows: Count = 64


class Session:
    """One client's episode.

    Args:
        task: Task id.
        spec: Fields of its step.
        agent: Acts; of one row.
    """

    def __init__(self, task: str, spec: StepSpec, agent: Any) -> None:
        self.id = secrets.token_urlsafe(12)
        self.task = task
        self.spec = spec
        self.agent = agent
        self.lock = threading.Lock()
        self.heard = time.monotonic()
        self.started = False

    def start(self, seed: int) -> None:
        """Starts a new episode."""
        self.agent.reset(np.ones(1, dtype=bool), seeds=[seed])
        self.started = True


class Service:
    """Sessions of a model. Its methods may be called from any thread.

    Args:
        model: The decoder.
        make_agent: Builds the agent of a session over a model.
        spec_of: The step spec of a task; raises for one that cannot be served.
        config: Limits.
        on_batch: Called with the number of rows of every forward pass.
    """

    def __init__(
        self,
        model: Any,
        make_agent: MakeAgent,
        spec_of: Callable[[str], StepSpec],
        config: ServiceConfig,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self.config = config
        self._batcher = Batcher(
            model, window=config.window, max_rows=config.max_rows, on_batch=on_batch
        )
        self._model = BatchedModel(self._batcher)
        self._make_agent = make_agent
        self._spec_of = spec_of
        self._sessions: dict[str, Session] = {}
        self._opening = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, task: str, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Session:
        """Starts a session and its first episode.

        Args:
            task: Task id.
            seed: Of sampling.
            settings: What the agent is built with besides: `instruction`, `greedy`, ...

        Raises:
            Busy: When there are too many.
            Db1Error: When the model cannot act in the task.
        """
        spec = self._spec_of(task)
        self._reserve()
        try:
            agent = self._make_agent(self._model, task, spec, **dict(settings or {}))
            session = Session(task, spec, agent)
            with session.lock, self._batcher:
                session.start(seed)
            with self._lock:
                self._sessions[session.id] = session
        finally:
            with self._lock:
                self._opening -= 1
        return session

    def act(self, session_id: str, observation: Mapping[str, Any]) -> tuple[Any, Any]:
        """Chooses an action.

        Args:
            session_id: Of an open session.
            observation: Values by key.

        Returns:
            The action, and how likely each value of each of its numbers was, float32
            (num_action_tokens, num_values); None where the agent keeps none.

        Raises:
            UnknownSession: When there is none.
            Busy: When an earlier request of the session is still at work.
            DataError: For an observation that does not fit the task's step.
        """
        session = self._get(session_id)
        checked = checked_observation(session.spec, observation)
        with _claimed(session), self._batcher:
            action = session.agent.act([checked])[0]
            kept = session.agent.last_probabilities
        return action, None if kept is None else kept[0]

    def reset(self, session_id: str, seed: int = 0) -> None:
        """Starts a new episode in a session.

        Raises:
            UnknownSession, Busy: As `act`.
        """
        session = self._get(session_id)
        with _claimed(session), self._batcher:
            session.start(seed)

    def close(self, session_id: str) -> None:
        """Ends a session and frees its memory; UnknownSession when there is none."""
        with self._lock:
            session = self._sessions.pop(session_id, None)
        if session is None:
            raise _unknown(session_id)

    def close_silent(self) -> int:
        """Ends the sessions that were silent for too long; returns their number."""
        limit = time.monotonic() - self.config.idle_seconds
        with self._lock:
            silent = [s for s in self._sessions.values() if s.heard < limit and not s.lock.locked()]
            for session in silent:
                del self._sessions[session.id]
        return len(silent)

    def stop(self) -> None:
        """Ends all sessions."""
        with self._lock:
            self._sessions.clear()
        self._batcher.stop()

    def _reserve(self) -> None:
        with self._lock:
            if len(self._sessions) + self._opening >= self.config.max_sessions:
                raise Busy(
                    f"{self.config.max_sessions} sessions are open, as many as this server takes; "
                    "close one, or try again later"
                )
            self._opening += 1

    def _get(self, session_id: str) -> Session:
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None:
            raise _unknown(session_id)
        session.heard = time.monotonic()
        return session


class _claimed:
    """Holds a session for one request; Busy when another one has it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        if not self._session.lock.acquire(blocking=False):
            raise Busy("the session is at work on an earlier request; wait for its answer")

    def __exit__(self, *exception: object) -> None:
        self._session.heard = time.monotonic()
        self._session.lock.release()


def checked_observation(spec: StepSpec, observation: Any) -> dict[str, Any]:
    """The values of a step in the dtypes of its fields.

    Raises:
        DataError: For other keys, shapes or values than the spec's.
    """
    if not isinstance(observation, Mapping) or set(observation) != set(spec.observation):
        got = (
            sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
        )
        raise DataError(f"observation: got {got}, expected the keys {sorted(spec.observation)}")
    return {
        key: _checked_value(field, observation[key], f"observation {key!r}")
        for key, field in spec.observation.items()
    }


def _checked_value(field: FieldSpec, value: Any, where: str) -> Any:
    if field.kind == "text":
        field.check(value, where)
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{where}: no array ({error})") from None
    is_number = array.dtype.kind in ("fiub" if field.kind == "continuous" else "iub")
    if not is_number:
        raise DataError(f"{where}: got {array.dtype}, expected {field.dtype}")
    if field.kind == "image" and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise DataError(f"{where}: values {array.min()}..{array.max()}, expected 0..255")
    field.check(array, where)
    return array.astype(field.dtype)


def _unknown(session_id: str) -> UnknownSession:
    return UnknownSession(
        f"session {session_id[:40]!r}: there is none, or it was silent for too long; open another"
    )
