"""A policy server's client: needs requests and numpy only.

    from db1.client import Client

    client = Client("http://127.0.0.1:8765")
    with client.agent("babyai/GoToLocal", seed=1) as agent:
        observation, _ = env.reset(seed=2_000_000)
        action = agent.act(observation)

An agent of a client is used as one of `db1.load(...).agent(env)` is, and gives the same actions.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import requests

from db1.errors import Db1Error


class ServerError(Db1Error):
    """A server's refusal, in its own words.

    Args:
        message: What is wrong.
        status: Of the HTTP answer; 0: the server could not be reached.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Talks to `db1 serve`.

    Args:
        address: Such as `http://127.0.0.1:8765`.
        token: Of the server, where it wants one.
        timeout: Seconds that an answer may take.
    """

    def __init__(self, address: str, token: str | None = None, timeout: float = 60.0) -> None:
        self.address = address.rstrip("/")
        self._timeout = timeout
        self._http = requests.Session()
        if token is not None:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def health(self) -> dict[str, Any]:
        """The server's account of itself."""
        return self.request("GET", "/health")

    def agent(
        self,
        env: Any,
        instruction: str | None = None,
        *,
        seed: int = 0,
        greedy: bool = True,
        temperature: float = 1.0,
        memory: int | None = None,
        probabilities: bool = False,
    ) -> RemoteAgent:
        """Opens a session.

        Args:
            env: A task id, or an environment of db1.
            instruction: Text in front of every step, for models that learned with one.
            seed: Of sampling.
            greedy: Take the best action; else sample.
            temperature: Of sampling.
            memory: Tokens that a step can look back on; None: as the model was trained.
            probabilities: Fetch `RemoteAgent.probabilities` with every action.

        Raises:
            ServerError: When the server has no room, or cannot act in the task.
        """
        task = env if isinstance(env, str) else env.unwrapped.task_id
        settings = {"greedy": greedy, "temperature": temperature, "seed": seed}
        optional = {"instruction": instruction, "memory": memory}
        given = {key: value for key, value in optional.items() if value is not None}
        opened = self.request("POST", "/sessions", {"task": task, **settings, **given})
        return RemoteAgent(self, opened, probabilities)

    def request(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """One request; returns the content of its answer, with arrays.

        Raises:
            ServerError: When the server refuses, or cannot be reached.
        """
        try:
            answer = self._http.request(
                method,
                self.address + path,
                json=None if content is None else _packed(content),
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            raise ServerError(f"{self.address}: cannot be reached ({error})", 0) from error
        try:
            body = answer.json()
        except ValueError:
            raise ServerError(
                f"{self.address}{path}: not JSON, status {answer.status_code}", answer.status_code
            ) from None
        if answer.status_code != 200:
            said = body.get("error", body) if isinstance(body, dict) else body
            raise ServerError(f"{self.address}: {said}", answer.status_code)
        return _unpacked(body)

    def close(self) -> None:
        """Drops the connections; sessions that are open end when they are silent for long."""
        self._http.close()


class RemoteAgent:
    """A session; made by `Client.agent`, and closed at the end of a `with` block.

    Args:
        client: Of the server.
        opened: The server's answer.
        keeps: Fetch probabilities.

    Attributes:
        task: Task id.
        probabilities: After `act`, float32 (num_action_tokens, num_values); None unless fetched.
    """

    def __init__(self, client: Client, opened: Mapping[str, Any], keeps: bool) -> None:
        self._client = client
        self._path = f"/sessions/{opened['session']}"
        self._keeps = keeps
        self.task = str(opened["task"])
        self.spec: Mapping[str, Any] = opened["spec"]
        self.probabilities: np.ndarray | None = None

    def __enter__(self) -> RemoteAgent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def act(self, observation: Mapping[str, Any]) -> Any:
        """Chooses an action; see `db1.Agent.act`.

        Raises:
            ServerError: For an observation that is not of the task, or a session that ended.
        """
        content: dict[str, Any] = {"observation": observation}
        if self._keeps:
            content["probabilities"] = True
        answer = self._client.request("POST", f"{self._path}/act", content)
        self.probabilities = answer.get("probabilities")
        return answer["action"]

    def reset(self, seed: int = 0) -> None:
        """Starts a new episode."""
        self._client.request("POST", f"{self._path}/reset", {"seed": seed})

    def close(self) -> None:
        """Ends the session; the server frees its memory."""
        self._client.request("DELETE", self._path)


def _packed(value: Any) -> Any:
    """Arrays as `{"dtype", "shape", "base64"}`, which is exact."""
    if isinstance(value, Mapping):
        return {key: _packed(part) for key, part in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
        return {
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "base64": base64.b64encode(data).decode("ascii"),
        }
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"dtype", "shape", "base64"}:
        dtype = np.dtype(value["dtype"]).newbyteorder("<")
        flat = np.frombuffer(base64.b64decode(value["base64"]), dtype, math.prod(value["shape"]))
        return flat.astype(value["dtype"]).reshape(value["shape"])
    return {key: _unpacked(part) for key, part in value.items()}
