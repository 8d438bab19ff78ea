"""What the page's server answers, and what it refuses."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_report import make_results

from db1.cli.main import main  # noqa: F401  (import errors should fail here first)
from db1.demo.session import frame_uri

TASK = "classic_control/CartPole-v1"


def ask(
    address: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and lines (of JSON where they are) of a request; POST with a body."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, content, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.headers.get_content_type() in ("application/json", "application/x-ndjson"):
        return response.status, [json.loads(line) for line in text.splitlines()]
    return response.status, text


def png(image_format: str = "PNG", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def test_about_and_page(address: str, run: Path) -> None:
    status, [about] = ask(address, "/api/about")
    assert status == 200 and about["run"] == str(run)
    assert about["text"] and about["caption"] and about["question"]
    assert about["tasks"] == [{"id": TASK, "missing": None}]
    assert about["examples"] == []


def test_examples_are_episodes_that_the_evaluation_solved(address: str, run: Path) -> None:
    results = make_results({TASK: [1.0, 2.0, 3.0, 4.0], "toy/other": [1.0]})
    results["tasks"][TASK] |= {"successes": [False, None, True, True], "lengths": [9, 9, 9, 200]}
    results["tasks"]["toy/other"]["successes"] = [True]  # the run did not learn it
    (run / "evaluation").mkdir()
    try:
        (run / "evaluation/results.json").write_text(json.dumps(results))
        assert ask(address, "/api/about")[1][0]["examples"] == [{"task": TASK, "episode": 2}]
        (run / "evaluation/results.json").write_text("{")
        assert ask(address, "/api/about")[1][0]["examples"] == []
    finally:
        shutil.rmtree(run / "evaluation")
    for path in ("/", "/page.js", "/page.css"):
        status, text = ask(address, path)
        assert status == 200 and "https://" not in text and "//cdn" not in text


def test_captions_and_answers(address: str) -> None:
    status, [found] = ask(address, "/api/caption", png())
    assert status == 200 and set(found) == {"caption", "notes"}
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    status, [found] = ask(address, "/api/answer?question=what%20is%20it%3F", buffer.getvalue())
    assert status == 200 and found["notes"] == ["only the first of its frames is used"]


def test_writing_is_streamed(address: str) -> None:
    asked = {"text": "Look at", "max_tokens": 6, "temperature": 1.0}
    status, pieces = ask(address, "/api/chat", asked)
    assert status == 200 and pieces[-1]["over"] and len(pieces) > 2
    assert ask(address, "/api/chat", asked)[1] == pieces


def test_an_episode_is_streamed(address: str) -> None:
    status, pieces = ask(address, "/api/act", {"task": TASK, "episode": 3})
    assert status == 200
    started = {"started": TASK, "primed": False, "instruction": None}
    assert pieces[:2] == [{"starting": TASK}, started]
    frames, last = pieces[2:-1], pieces[-1]
    assert last["over"] and last["step"] == last["return"] == len(frames) - 1
    assert all(frame["frame"].startswith("data:image/jpeg;base64,") for frame in frames)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/caption", b"no picture", "not one of the image formats"),
        ("/api/caption", b"", "empty file"),
        ("/api/caption", png()[:500], "cannot decode the image"),
        ("/api/caption", bytes(10 * 2**20 + 1), "more than 10 MiB"),
        ("/api/answer", png(), "question: empty"),
        ("/api/answer?question=" + "why%20" * 200, png(), "tokens too long"),
        ("/api/chat", b"[]", "not a JSON object"),
        ("/api/chat", {"text": 3}, "text: got 3"),
        ("/api/chat", {"text": "a", "max_tokens": 0}, "max_tokens: got 0"),
        ("/api/chat", {"text": "a" * 20_001}, "20001 characters"),
        ("/api/act", {"task": "tsp/uniform20"}, "did not learn it"),
        ("/api/act", {"task": TASK, "episode": -1}, "episode -1, expected 0.."),
    ],
)
def test_bad_requests_get_one_message(address: str, path: str, body: Any, words: str) -> None:
    status, pieces = ask(address, path, body)
    assert status in (200, 400) and words in pieces[-1]["error"], pieces
    assert len(pieces) == 1


def test_other_sites_and_hosts_are_refused(address: str) -> None:
    status, [found] = ask(address, "/api/chat", {"text": "a"}, {"Origin": "http://elsewhere"})
    assert status == 403 and "other sites" in found["error"]
    assert ask(address, "/", None, {"Host": "elsewhere:80"})[0] == 400
    assert ask(address, "/api/about", None, {"Origin": address})[0] == 200


def test_an_episode_ends_when_nobody_looks(address: str) -> None:
    """A second episode waits for one that runs, and starts as soon as its reader is gone."""
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps({"task": TASK, "episode": 0}).encode()
    head = f"POST /api/act HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=60) as reader:
            reader.sendall(head.encode() + body)
            assert b"200 OK" in reader.recv(4096)
        status, lines = ask(address, "/api/act", {"task": TASK})
        assert status == 200 and lines[-1]["over"], "the episode went on without a reader"


def test_requests_at_once(address: str) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(address, "/api/caption", png())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers)


def test_small_pictures_are_enlarged_whole() -> None:
    import base64

    uri = frame_uri(np.zeros((40, 30, 3), dtype=np.uint8))
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert picture.size == (240, 320)


def _leave_while_sending(app: Any, path: str) -> list[dict[str, Any]]:
    """Begins a request and goes away in the middle of its body; returns what was answered."""
    answered: list[dict[str, Any]] = []
    words = iter([{"type": "http.request", "body": b"x" * 100, "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(words, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"host", b"127.0.0.1")], "scheme": "http",
        "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return answered


@pytest.mark.parametrize("path", ["/api/caption", "/api/answer", "/api/chat", "/api/act"])
def test_a_client_that_leaves_is_no_error(path: str) -> None:
    pytest.importorskip("starlette", reason='needs pip install "db1[demo]"')
    from db1.demo.app import make_app

    answered = _leave_while_sending(make_app(None), path)  # no run is asked before all is there
    assert [m["status"] for m in answered if m["type"] == "http.response.start"] == [499]
