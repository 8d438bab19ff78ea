"""`db1 record` and `db1 play` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

TASK = "tsp/uniform20"


def test_evaluate_record_report(db1, experiment: Path, tmp_path: Path) -> None:
    run, out = experiment.parent / "runs/tiny", tmp_path / "e"
    assert db1("eval", run, "--task", TASK, "--episodes", 3, "--no-text", "--out", out)[0] == 0
    status, text, err = db1("record", out, "--frames", 16, "--size", 96)
    assert status == 0, err
    assert "recorded: 3 episodes of 1 tasks" in text
    assert "same returns as evaluated: 3 of 3" in text
    page, tables = tmp_path / "page.html", tmp_path / "tables.tex"
    status, text, err = db1("report", out, "--html", page, "--latex", tables)
    assert status == 0, err
    html = page.read_text()
    assert html.count("data-film=") == 3 and "3 of 3 returned exactly" in html
    assert "Training" in html and "loss (nats a token)" in html
    assert "tsp/uniform20" in tables.read_text()


def test_play(db1, experiment: Path, tmp_path: Path) -> None:
    run, film = experiment.parent / "runs/tiny", tmp_path / "film.webp"
    status, out, err = db1("play", run, TASK, "--show", "lines")
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(TASK) and lines[1].startswith("step 0 ") and "%" in lines[1]
    assert lines[-1].startswith("over after 19 steps, return -")
    status, out, err = db1("play", run, TASK, "--out", film, "--max-steps", 3)
    assert status == 0, err
    assert out.startswith("stopped after 3 steps") and f"film: {film}" in out
    with Image.open(film) as frames:
        assert frames.n_frames == 4
    assert db1("play", run, TASK, "--policy", "expert", "--show", "nothing")[0] == 0
    folder = tmp_path / "random"
    arguments = ("--policy", "random", "--task", TASK, "--episodes", 2, "--no-text")
    assert db1("eval", run, *arguments, "--out", folder)[0] == 0
    returned = json.loads((folder / "results.json").read_text())["tasks"][TASK]["returns"][1]
    like = ("--evaluation", folder, "--episode", 1, "--show", "nothing")
    out = db1("play", run, TASK, *like)[1]
    assert out.strip() == f"over after 19 steps, return {returned:.6g}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("play", "{run}", "tsp/uniform21"), "did you mean"),
        (("play", "{run}", TASK, "--show", "windows"), "did you mean 'window'"),
        (("play", "{run}", TASK, "--out", "{tmp}/film.avi"), ".webp, .gif, .mp4"),
        (("play", "{run}", "classic_control/Pendulum-v1", "--out", "{tmp}/f.gif"), "no-prompt"),
        (("play", "{tmp}", TASK), "config.yaml"),
        (("record", "{tmp}"), "no results"),
        (("report", "{tmp}", "--latex", "{tmp}/t.tex"), "no results"),
    ],
)
def test_refuses(db1, experiment: Path, tmp_path: Path, arguments: tuple, words: str) -> None:
    run = experiment.parent / "runs/tiny"
    filled = [argument.format(run=run, tmp=tmp_path) for argument in arguments]
    status, _, err = db1(*filled)
    assert status == 2 and words in err and len(err.strip().splitlines()) == 1, err
    assert list(tmp_path.iterdir()) == []
