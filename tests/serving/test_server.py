"""The server in a process of its own: HTTP, WebSocket, tokens, limits, and the client."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import db1
from db1.client import Client, ServerError
from db1.errors import ConfigError
from db1.serving.server import ServerConfig, is_loopback, read_token
from db1.serving.wire import JSON, MSGPACK, dump, parse

requests = pytest.importorskip("requests")
for name in ("starlette", "uvicorn", "websockets", "prometheus_client", "msgpack"):
    pytest.importorskip(name, reason='needs pip install "db1[serve]"')

CARTPOLE, PENDULUM = "classic_control/CartPole-v1", "classic_control/Pendulum-v1"
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def address(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token and room for four sessions, which end after two silent seconds."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(f"{TOKEN}\n")
    start = "from db1.cli.main import main; main()"
    arguments = [
        "serve", run, "--port", "0", "--token-file", token, "--max-sessions", "4", "--idle", "4",
        "--precision", "float64", "--threads", "1", "--device", "cpu", "--task", CARTPOLE,
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1"),
    ) as process:  # fmt: skip
        try:
            yield first_line(process).split()[1]
        finally:
            process.terminate()
            assert process.wait(30) in (0, -15, 130)


def first_line(process: subprocess.Popen[str], seconds: float = 600) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while selector.select(timeout=max(0.0, end - time.monotonic())):
            line = process.stdout.readline()
            assert line, f"`db1 serve` ended with status {process.wait()}"
            if line.startswith("serving: "):
                return line
    raise AssertionError("`db1 serve` said nothing")


@pytest.fixture
def client(address: str) -> Client:
    return Client(address, token=TOKEN)


def post(address: str, path: str, content: object, **headers: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {TOKEN}", **headers}
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return requests.post(address + path, data=body, headers=headers, timeout=60)


def test_the_client_s_agent_is_a_local_one(client: Client, run: Path) -> None:
    model = db1.load(run, device="cpu")
    model.parts.model.double()
    env = db1.make_env(PENDULUM)
    local = model.agent(env)
    local.reset(seed=3)
    with client.agent(env, seed=3, probabilities=True) as agent:
        for _ in range(2):
            observation, _ = env.reset(seed=2_000_000)
            for _ in range(5):
                action = agent.act(observation)
                expected = local.act(observation)
                assert action.dtype == expected.dtype and np.array_equal(action, expected)
                assert np.array_equal(agent.probabilities, local.probabilities)
                observation, *_ = env.step(action)
            agent.reset(seed=3)
            local.reset(seed=3)
    assert agent.task == PENDULUM and set(agent.spec) >= {"observation", "action"}


def test_msgpack_and_json_say_the_same(address: str) -> None:
    observation = {"state": np.array([0.1, -0.2, 0.05, 0.3], np.float32)}
    actions = []
    for kind in (JSON, MSGPACK):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        opened = requests.post(f"{address}/sessions", dump({"seed": 1}, kind), headers=headers)
        session = parse(opened.content, kind)["session"]
        body = dump({"observation": observation, "probabilities": True}, kind)
        answer = requests.post(f"{address}/sessions/{session}/act", body, headers=headers)
        actions.append(parse(answer.content, kind))
        closed = requests.delete(f"{address}/sessions/{session}", headers=headers)
        assert closed.status_code == 200
    assert actions[0]["action"] == actions[1]["action"]
    assert np.array_equal(actions[0]["probabilities"], actions[1]["probabilities"])


def test_a_stream_acts_and_its_sessions_end_with_it(address: str, client: Client) -> None:
    from websockets.sync.client import connect

    before = client.health()["sessions"]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with connect(address.replace("http", "ws") + "/stream", additional_headers=headers) as stream:

        def ask(**content: object) -> dict:
            stream.send(json.dumps(content))
            return json.loads(stream.recv(timeout=60))

        session = ask(do="open", task=CARTPOLE)["session"]
        for _ in range(3):
            answer = ask(do="act", session=session, observation={"state": [0, 0.1, 0, 0]})
            assert answer["action"] in (0, 1)
        assert ask(do="act", session=session, observation={})["status"] == 400
        assert ask(do="dance")["error"].startswith("do: got 'dance'")
        assert client.health()["sessions"] == before + 1
    deadline = time.monotonic() + 10
    while client.health()["sessions"] > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.health()["sessions"] == before


@pytest.mark.parametrize(
    "path, content, status, message",
    [
        ("/sessions", {"task": "tsp/nothing"}, 400, "unknown task"),
        ("/sessions", {"task": 7}, 400, "task: missing"),
        ("/sessions", {"seed": -1}, 400, "seed: got -1"),
        ("/sessions", {"temperature": "hot"}, 400, "temperature: got 'hot'"),
        ("/sessions", b"{", 400, "no application/json"),
        ("/sessions", [1], 400, "expected a mapping"),
        ("/sessions/nobody/act", {"observation": {}}, 404, "there is none"),
        ("/sessions/{}/act", {"observation": {"state": [1, 2]}}, 400, "got shape (2,)"),
        ("/sessions/{}/act", {"observation": {"other": 1}}, 400, "expected the keys ['state']"),
        ("/sessions/{}/act", {"observation": {"state": [1, 2, 3, "x"]}}, 400, "expected float32"),
        (
            "/sessions/{}/act",
            {"observation": {"state": {"dtype": "float32", "shape": [4], "base64": "AAAA"}}},
            400,
            "with 3 bytes, expected 16",
        ),
        (
            "/sessions/{}/act",
            {"observation": {"state": {"dtype": "object", "shape": [4], "base64": ""}}},
            400,
            "dtype 'object'",
        ),
    ],
)
def test_bad_requests_are_one_clear_error(
    address: str, client: Client, path: str, content: object, status: int, message: str
) -> None:
    with client.agent(CARTPOLE) as agent:
        answer = post(address, path.format(agent._path.split("/")[-1]), content)
        assert answer.status_code == status
        assert message in answer.json()["error"] and "\n" not in answer.json()["error"]
        assert agent.act({"state": np.zeros(4, np.float32)}) in (0, 1)


def test_a_request_of_100_mb_is_cut_off(address: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2**20

    try:
        answer = requests.post(
            f"{address}/sessions", data=body(), timeout=60,
            headers={"Authorization": f"Bearer {TOKEN}"},
        )  # fmt: skip
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # the server closed the connection before all was sent
    assert requests.get(f"{address}/health", timeout=60).json()["status"] == "ok"


def test_a_token_is_needed(address: str) -> None:
    for token in (None, "wrong", TOKEN + "x"):
        with pytest.raises(ServerError, match="a wrong token") as caught:
            Client(address, token=token).agent(CARTPOLE)
        assert caught.value.status == 401
    assert requests.get(f"{address}/metrics", timeout=60).status_code == 401
    assert requests.get(f"{address}/health", timeout=60).status_code == 200


def test_no_room_then_room_again_after_silence(address: str, client: Client) -> None:
    agents = [client.agent(CARTPOLE) for _ in range(4)]
    with pytest.raises(ServerError, match="4 sessions are open") as caught:
        client.agent(CARTPOLE)
    assert caught.value.status == 503
    refused = post(address, "/sessions", {})
    assert refused.headers["Retry-After"] == "5"
    deadline = time.monotonic() + 60
    while client.health()["sessions"] and time.monotonic() < deadline:
        time.sleep(0.2)
    with pytest.raises(ServerError, match="silent for too long"):
        agents[0].act({"state": np.zeros(4, np.float32)})
    with client.agent(CARTPOLE):
        pass
    text = requests.get(
        f"{address}/metrics", timeout=60, headers={"Authorization": f"Bearer {TOKEN}"}
    ).text
    assert 'db1_sessions_closed_total{by="silence"}' in text
    assert 'db1_refused_total{why="room"}' in text
    assert "db1_act_seconds_count" in text and "db1_batch_rows_bucket" in text


def test_any_other_address_needs_a_token(tmp_path: Path) -> None:
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and is_loopback("::1")
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(ConfigError, match="a token is needed"):
            ServerConfig(host=host)
        ServerConfig(host=host, token=TOKEN)
    file = tmp_path / "token"
    for text in ("short", "two words of a token", "zwölf zeichen und mehr", ""):
        file.write_text(text)
        with pytest.raises(ConfigError, match="at least 16 ASCII"):
            read_token(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "nothing")


def test_the_client_needs_requests_and_numpy_only() -> None:
    program = (
        "import sys\n"
        "import db1.client\n"
        "own = {n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names)\n"
        "heavy = {'torch', 'gymnasium', 'omegaconf', 'typer', 'rich', 'starlette'} & own\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(ServerError, match="cannot be reached") as caught:
        Client("http://127.0.0.1:9", timeout=5).health()
    assert caught.value.status == 0
