"""Folders that strangers share: whatever their files hold, no verb executes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import payloads

from db1.checkpoint.manifest import MANIFEST_FILE, write_manifest

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


def _attacked(db1: Run, folder: Path, target: Path, verbs: list[tuple[object, ...]]) -> int:
    """Puts payloads in the place of every file, and runs the verbs; number of runs."""
    whole = folder.with_name(folder.name + ".whole")
    shutil.copytree(folder, whole)
    names = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    kinds = {".pt": ("pickle", "torch"), ".yaml": ("yaml",)}
    runs = 0
    for name in names:
        for kind, payload in payloads(target):
            if kind not in kinds.get(name.suffix, ("pickle",)) or name.name == MANIFEST_FILE:
                continue
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            (folder / name).write_bytes(payload)
            manifest = (folder / name).with_name(MANIFEST_FILE)
            if manifest.is_file():  # its sender writes it, too
                step = json.loads(manifest.read_text())["step"]
                manifest.unlink()
                write_manifest(manifest.parent, step)
            for verb in verbs:
                shutil.rmtree(target.parent / "out", ignore_errors=True)
                status, _, err = db1(*verb)
                assert not target.exists(), (name, kind, verb)
                assert status in (0, 1, 2), (name, kind, verb, err)
                assert "Traceback" not in err, (name, kind, verb, err)
                runs += 1
    return runs


@pytest.fixture
def shared(experiment: Path, tmp_path: Path) -> Path:
    """A copy of the experiment: tiny.yaml, data/, runs/tiny with one checkpoint."""
    for name in ("data", "runs"):
        shutil.copytree(experiment.parent / name, tmp_path / name)
    text = experiment.read_text().replace(str(experiment.parent), str(tmp_path))
    (tmp_path / "tiny.yaml").write_text(text)
    run = tmp_path / "runs/tiny"
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace(str(experiment.parent), str(tmp_path))
    )
    shutil.copy(experiment.parent / "psalm.jsonl", tmp_path)
    for old in sorted((run / "checkpoints").glob("step-*"))[:-1]:
        shutil.rmtree(old)
    return tmp_path


def test_a_run_folder(db1: Run, shared: Path) -> None:
    run, target = shared / "runs/tiny", shared / "ran"
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    generate = ("generate", run, "--prompt", "And", "--max-tokens", "2", "--device", "cpu")
    verbs = [
        ("train", shared / "tiny.yaml", "training.num_steps=13"),
        generate,
        ("inspect", run),
        ("plot", run, "--out", shared / "curves.html"),
        ("convert", run, shared / "out", "--to", "safetensors"),
    ]
    assert _attacked(db1, run, target, verbs) >= 50


def test_a_safetensors_folder(db1: Run, shared: Path) -> None:
    tensors = shared / "tensors"
    assert db1("convert", shared / "runs/tiny", tensors, "--to", "safetensors")[0] == 0
    generate = ("generate", tensors, "--prompt", "And", "--max-tokens", "2", "--device", "cpu")
    assert _attacked(db1, tensors, shared / "ran", [generate, ("inspect", tensors)]) >= 4


def test_stores(db1: Run, shared: Path) -> None:
    data = shared / "data"
    task, text = data / "tsp/uniform20", data / "text/psalm"
    assert _attacked(db1, task, shared / "ran", [("inspect", task)]) >= 6
    assert _attacked(db1, text, shared / "ran", [("inspect", text)]) >= 6


def test_an_evaluation_folder(db1: Run, shared: Path) -> None:
    out = shared / "ev"
    command = ("eval", shared / "runs/tiny", "--out", out, "--episodes", "1", "--workers", "0")
    command += ("--max-steps", "3", "--no-prompt", "--no-text", "--task", "tsp/uniform20")
    assert db1(*command)[0] == 0, db1(*command)
    verbs = [("report", out, "--html", shared / "page.html"), command]
    assert _attacked(db1, out, shared / "ran", verbs) >= 2
