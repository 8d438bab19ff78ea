"""Pull from and push to a hub, against a local server that speaks the hub's HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from toy_checkpoint import CONFIG, draw

from db1.checkpoint.bundle import read_bundle
from db1.checkpoint.convert import convert
from db1.checkpoint.hub import CardScores
from db1.checkpoint.released_folder import write_released
from db1.errors import CheckpointError, ConfigError

hub = pytest.importorskip("huggingface_hub", reason="pip install 'db1[hub]'")
COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """One repository, `lab/model`; what is pushed can be pulled."""

    files: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *_):
        pass

    @property
    def here(self) -> str:
        return f"http://{self.headers['Host']}/lab/model"

    def answer(self, content: bytes = b"{}", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/lab/model/tree/"):
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": "0" * 40}
                for n, c in self.files.items()
            ]
            self.answer(json.dumps(tree).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/lab/model"):
            names = [{"rfilename": name} for name in self.files]
            info = {"id": "lab/model", "sha": COMMIT, "siblings": names, "private": False}
            self.answer(json.dumps(info).encode(), Content_Type="application/json")
        elif path.startswith("/lab/model/resolve/") and path.split("/")[-1] in self.files:
            content = self.files[path.split("/")[-1]]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        else:
            self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/preupload/main"):
            wanted = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.answer(json.dumps({"files": wanted}).encode())
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            address = f"{self.here}/commit/{COMMIT}"
            done = {"commitUrl": address, "commitOid": COMMIT, "success": True}
            self.answer(json.dumps(done).encode())
        elif self.path == "/api/repos/create":
            self.answer(json.dumps({"url": self.here, "name": "lab/model"}).encode())
        else:
            self.answer(b"{}")


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    Hub.files = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    from huggingface_hub import constants, hf_api

    for module in (constants, hf_api.api):
        if hasattr(module, "ENDPOINT"):
            monkeypatch.setattr(module, "ENDPOINT", address)
        if hasattr(module, "endpoint"):
            monkeypatch.setattr(module, "endpoint", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield address
    server.shutdown()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_released(tmp_path / "published", "tag", draw(), CONFIG)
    convert(str(tmp_path / "published"), str(tmp_path / "run"))
    return tmp_path / "run"


def test_push_then_pull_gives_the_same_model(endpoint, run: Path, tmp_path: Path) -> None:
    convert(str(run), "hf://lab/model")
    assert sorted(Hub.files) == ["README.md", "config.json", "model.safetensors", "specs.json"]
    assert b"db1 convert hf://lab/model" in Hub.files["README.md"]
    convert("hf://lab/model", str(tmp_path / "copy"))
    ours, theirs = read_bundle(run), read_bundle(tmp_path / "copy")
    assert ours.model_config == theirs.model_config
    assert all(torch.equal(ours.weights[n], theirs.weights[n]) for n in ours.weights)


def test_the_page_has_the_scores_and_the_command(endpoint, run: Path) -> None:
    group = {"num_tasks": 3, "share_at_least_50": 2 / 3, "mean_normalised": 0.5}
    group |= {"interquartile_mean": None}
    scores = CardScores(
        groups={"tsp": group, "unseen": group},
        command=["/usr/bin/db1", "eval", "my run", "--episodes", "50"],
        tag=read_bundle(run).tag,
    )
    convert(str(run), "hf://lab/model", scores=scores)
    page = Hub.files["README.md"].decode()
    assert "| tsp | 3 | 66.7 % | 50.0 % | - |\n| unseen | 3 |" in page
    assert "    db1 eval 'my run' --episodes 50\n" in page
    Hub.files = {}
    with pytest.raises(ConfigError, match=r"those of step-9, the model is .* --results"):
        convert(str(run), "hf://lab/model", scores=replace(scores, tag="step-9"))
    assert Hub.files == {}


def test_what_is_not_there(endpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"hf://lab/other: cannot be pulled .*hf auth login"):
        convert("hf://lab/other", str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_offline(monkeypatch, endpoint, run: Path, tmp_path: Path) -> None:
    from huggingface_hub import constants, hf_api

    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(hf_api.api, "endpoint", nobody)
    with pytest.raises(CheckpointError, match="check the name and the network"):
        convert("hf://lab/model", str(tmp_path / "copy"))
    with pytest.raises(CheckpointError, match="cannot be pushed"):
        convert(str(run), "hf://lab/model")


def test_addresses() -> None:
    for place in ("hf://", "hf://one", "hf://a/b/c", "hf://a/b@"):
        with pytest.raises(ConfigError, match="hf://user/name"):
            convert(place, "somewhere")
