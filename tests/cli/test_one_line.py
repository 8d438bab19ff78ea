"""Whatever is typed, missing, full or closed: one line, status 2, and no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ARGUMENTS = {
    "train": "Missing argument",
    "no-such-verb": "No such command",
    "eval x --temperature nan": "--temperature': got nan, expected a finite number",
    "eval x --sample --temperature 0": "temperature: got 0.0, expected above 0",
    "eval x --sample --temperature -1": "temperature: got -1.0, expected above 0",
    "eval x --sample --seed -5": "--seed",
    "eval x --episodes many": "--episodes': got many, expected a whole number",
    "eval x --episodes 0": "--episodes': got 0, expected at least 1",
    "eval x --workers 5000": "--workers': got 5000, expected at most 4096",
    "eval x --episodes": "(see db1 eval --help)",
    "eval x --scores /nonexistent": "/nonexistent: no such file or folder",
    "eval x --temperature 0.5": "--temperature': needs --sample",
    "collect tsp/uniform20 --episodes 99999999999999999999": "expected a number of 64 bits",
    "collect --config x.yaml --episodes 5": "--episodes': has no effect with --config",
    "inspect x.yaml --slot 3": "--slot': needs --step",
    "report x --run /nope": "/nope: no such file or folder",
    "report x --film-megabytes 3": "needs --html",
    "generate x --promt y": "--prompt",
    "parity x --tolerance inf": "expected a finite number",
    "play x y --speed inf": "expected a finite number",
    "import text x.txt --out": "--out",
    "import d4rl no_such_file.hdf5 --out o": "no_such_file.hdf5: no such file",
    "bench decode --width 1048576": "needs at least",
    "train /": "/: is a folder",
    "compare /nope": "published",
}


def _refused(outcome: tuple[int, str, str], *words: str) -> None:
    status, _, err = outcome
    lines = [line for line in err.splitlines() if line.strip()]
    assert status == 2 and len(lines) == 1 and lines[0].startswith("db1: error: "), err
    for word in words:
        assert word in lines[0], (word, lines[0])


@pytest.mark.parametrize("typed", ARGUMENTS)
def test_usage_errors_are_one_line(db1, typed: str) -> None:
    _refused(db1(*typed.split()), ARGUMENTS[typed])


@pytest.mark.parametrize("typed", [("report", ""), ("plot", ""), ("eval", "x", "--out", "")])
def test_empty_paths(db1, typed: tuple[str, ...]) -> None:
    _refused(db1(*typed), "empty path")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learning_rate=inf", ("training.learning_rate", "finite")),
        ("training.learning_rate=.nan", ("training.learning_rate", "finite")),
        ("training.seed=-1", ("training.seed: got -1",)),
        ("data.heldout_share=2", ("data.heldout_share: got 2.0",)),
        ("data.tasks.tsp/uniform20.episodes=-1", ("episodes: got -1",)),
        ("model.width=1099511627776", ("model.width", "at most")),
        ("model.width=1048576", ("needs at least", "GiB")),
        ("sequence.length=100000000", ("needs at least", "GiB")),
        ("model.memory_length=10000000000", ("model.memory_length", "at most")),
        ("training.global_batch_size=1000000000000", ("training.global_batch_size", "at most")),
        ("data.tasks.tsp/uniform20.weight=1e308", ("weight: got 1e+308", "at most")),
        ("training.num_steps=10 # ten", ("' #' begins a comment",)),
        ("name=", ("name",)),
        ("runs=", ("runs: got an empty path",)),
        ("=3", ("key=value",)),
        ("data.tasks=tsp", ("data.tasks",)),
        ("name=${nothing}", ("nothing",)),
    ],
)
def test_settings_without_sense(db1, experiment: Path, override: str, words: tuple) -> None:
    outcome = db1("train", experiment, *([] if override == "name=" else ["name=x"]), override)
    _refused(outcome, *words)


@pytest.mark.parametrize("name", ["try #1", "123", "2024_01_05", "12:30:45", "1e-3", "null", "yes"])
def test_texts_are_taken_as_typed(experiment: Path, name: str) -> None:
    from db1.training.experiment import load_experiment

    config = load_experiment(experiment, [f"runs=my runs #2/{name}", f"name={name}"])
    assert (config.name, config.runs) == (name, Path("my runs #2") / name)
    quoted = load_experiment(experiment, [f'name="{name}"'])
    assert quoted.name == name


def test_a_yaml_that_grows_without_an_end(db1, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb.write_text("\n".join(lines))
    _refused(db1("train", bomb), "bomb.yaml", "aliases")
    bomb.write_text("a: &a [*a]\n")
    _refused(db1("train", bomb), "bomb.yaml")
    bomb.write_text("a: " + "[" * 3_000 + "]" * 3_000)
    _refused(db1("train", bomb), "bomb.yaml")


def test_variables_of_a_pod_are_for_launched_verbs(db1, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "-1"}.items():
        monkeypatch.setenv(name, value)
    _refused(db1("import", "d4rl", "none.hdf5", "--out", "o"), "none.hdf5: no such file")
    status, out, err = db1("tasks", "--suite", "tsp", "--counts")
    assert status == 0 and "tsp" in out and not err
    _refused(db1("eval", "x"), "LOCAL_RANK")


def test_outputs_that_cannot_be_written(db1, experiment: Path, tmp_path: Path) -> None:
    run = experiment.parent / "runs/tiny"
    evaluation, blocked = tmp_path / "ev", tmp_path / "file"
    blocked.write_text("")
    arguments = ("--policy", "random", "--episodes", 1, "--workers", 0, "--no-prompt")
    task = ("--task", "tsp/uniform20")
    assert db1("eval", run, *arguments, *task, "--out", evaluation)[0] == 0
    why = "cannot be written (Not a directory)"
    _refused(db1("plot", run, "--out", blocked / "x.html"), why)
    _refused(db1("report", evaluation, "--html", blocked / "x.html"), why)
    _refused(db1("compare", evaluation, "--published", "--json", blocked / "x.json"), why)
    _refused(db1("train", experiment, f"runs={blocked}/runs"), why)
    _refused(db1("eval", run, *arguments, *task, "--out", blocked / "ev"), why)
    _refused(db1("plot", run, "--out", tmp_path / f"{'n' * 300}.html"), "File name too long")
    (tmp_path / "loop").symlink_to("loop")
    _refused(db1("plot", run, "--out", tmp_path / "loop/x.html"), "symbolic links")


def test_weights_that_are_not_numbers(db1, experiment: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    assert db1("convert", experiment.parent / "runs/tiny", tmp_path / "m")[0] == 0
    weights = load_file(tmp_path / "m/model.safetensors")
    name = next(n for n, w in weights.items() if w.ndim == 2)
    weights[name][0, 0] = torch.nan
    save_file(weights, tmp_path / "m/model.safetensors")
    data = experiment.parent / "data"
    outcome = db1("eval", tmp_path / "m", "--data", data, "--no-prompt", "--out", tmp_path / "ev")
    _refused(outcome, "the weights of", "are broken", name)


def test_a_run_seen_from_another_folder(
    db1, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = experiment.parent
    monkeypatch.chdir(root)
    relative = [f"data.root={Path('data')}", "runs=runs", "name=relative", "training.num_steps=2"]
    relative += ["training.warmup_steps=0", "data.text.psalm.source=psalm.jsonl"]
    assert db1("train", experiment, *relative)[0] == 0
    monkeypatch.chdir(tmp_path)
    run = os.path.relpath(root / "runs/relative", tmp_path)
    arguments = ("--no-prompt", "--episodes", 1, "--workers", 0, "--max-steps", 2, "--out", "ev")
    status, _, err = db1("eval", run, *arguments)
    assert status == 0, err
    assert json.loads((tmp_path / "ev/results.json").read_text())["text"] is not None
    status, out, _ = db1("inspect", run, "--samples", 1, "--no-environments")
    assert "unusable" not in out


def _run(arguments: list[str], **streams: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "db1", *arguments]
    return subprocess.run(command, timeout=300, **streams)  # type: ignore[call-overload]


def test_a_full_standard_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = _run(["tasks", "--suite", "tsp", "--counts"], stdout=full, stderr=subprocess.PIPE)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1, lines
    said = "db1: error: standard output: cannot be written (No space left on device)"
    assert lines == [said]


def test_closed_streams_do_not_end_up_in_a_file(tmp_path: Path) -> None:
    tasks = f'exec "{sys.executable}" -m db1 tasks --suite tsp --counts'
    done = subprocess.run(["bash", "-c", f"{tasks} <&- >&-"], stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 0 and not done.stderr
    piped = f"{tasks.removeprefix('exec ')} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 0 and not done.stderr


def test_a_bug_is_one_line_with_its_place(db1, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("a")

    monkeypatch.setattr("db1.suites.listing.task_lines", broken)
    status, _, err = db1("tasks")
    assert status == 70 and "internal error: KeyError: 'a'" in err and "Traceback" not in err
