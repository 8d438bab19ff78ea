"""Measuring keeps what the pages need, beside the command and the machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script; its results lie in a folder of the test."""
    module = _load("measure")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "commit", lambda: "abc1234")
    return module


def _run(measure: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["measure.py", *words])
    measure.main()


def _writes(content: object) -> list[str]:
    code = f"import sys; open(sys.argv[1], 'w').write({json.dumps(content)!r})"
    return [sys.executable, "-c", code, "FILE"]


def test_figures_stand_beside_command_and_machine(measure, monkeypatch, tmp_path: Path) -> None:
    timing = {"median_seconds": 2.0, "seconds": [1.0, 2.0, 3.0], "per_second": 0.5}
    comparison = {"work": "w", "unit": "u", "notes": {"n": 1}, "timings": {"db1": timing}}
    content = {"machine": {"its": "own"}, "comparisons": [comparison]}
    _run(measure, monkeypatch, "toy", "--shown", "db1 bench toy", "--", *_writes(content))
    kept = json.loads((tmp_path / "results/toy.json").read_text())
    assert kept["command"] == "db1 bench toy"
    assert kept["machine"].keys() == {
        "date", "commit", "processor", "cores", "memory_gib", "python", "torch", "load", "seconds",
    }  # fmt: skip
    assert kept["comparisons"] == [
        comparison | {"timings": {"db1": {"median_seconds": 2.0, "rounds": 3}}}
    ]


def test_standard_output_is_read_where_no_file_is_written(measure, monkeypatch, tmp_path) -> None:
    code = "print('[1, 2]')"
    _run(measure, monkeypatch, "toy", "--", sys.executable, "-c", code)
    assert json.loads((tmp_path / "results/toy.json").read_text())["rows"] == [1, 2]


def test_a_commit_is_measured_once(measure, monkeypatch, tmp_path: Path) -> None:
    kept = tmp_path / "results/toy.json"
    for value, words, expected in ((1, (), 1), (2, (), 1), (3, ("--again",), 3)):
        _run(measure, monkeypatch, "toy", *words, "--", *_writes({"value": value}))
        assert json.loads(kept.read_text())["value"] == expected
    monkeypatch.setattr(measure, "commit", lambda: "abc1234+")
    for value in (4, 5):  # changes that are not committed: never the same
        _run(measure, monkeypatch, "toy", "--", *_writes({"value": value}))
        assert json.loads(kept.read_text())["value"] == value


def test_a_failure_keeps_what_was_there(measure, monkeypatch, tmp_path: Path) -> None:
    _run(measure, monkeypatch, "toy", "--", *_writes({"value": 1}))
    for code, said in (("raise SystemExit(3)", "exit status 3"), ("print('no')", "wrote no JSON")):
        with pytest.raises(SystemExit, match=said):
            _run(measure, monkeypatch, "toy", "--again", "--", sys.executable, "-c", code)
    assert json.loads((tmp_path / "results/toy.json").read_text())["value"] == 1


def test_own_figures_win_over_those_of_the_command(measure) -> None:
    found = {"rows": [], "command": "x", "machine": {}}
    assert measure.slim(found) == {"rows": []}
    plan = {"name": "a", "parameters": {"total": 1}, "training_memory": {}, "sources": []}
    assert measure.slim(plan) == {"name": "a", "parameters": {"total": 1}}


def _benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / "benchmarks.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_benchmarks_tell_what_they_measure() -> None:
    names = _benchmarks("--list").stdout.split()
    assert {"train", "decode_1", "decode_8", "data", "fuzz", "stranger"} <= set(names)
    told = _benchmarks("--help")
    assert told.returncode == 0 and "bash scripts/benchmarks.sh --again" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("measured again")


@pytest.mark.parametrize("words", [("--agian",), ("decode_3",)])
def test_a_slip_measures_nothing(words: tuple[str, ...]) -> None:
    done = _benchmarks(*words)
    assert done.returncode == 2 and words[0] in done.stderr


def test_stages_of_the_quickstart() -> None:
    said = (
        "== collecting demonstrations, text (after 1 s)\nx\n== training (after 80 s)\n"
        "== evaluating: 16 episodes (after 90 s)\n== report (after 100 s)\n== done (after 101 s)\n"
    )
    stages = _load("stranger_clock").stages_of(said)
    assert [(each["stage"], each["seconds"]) for each in stages] == [
        ("collecting demonstrations, text", 79),
        ("training", 10),
        ("evaluating", 10),
        ("report", 1),
    ]


def test_tours_are_summed_up() -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("elkai", reason="needs the environment of scripts/test.sh")
    found = _load("compare_tours").summary(np.array([[0.0, 0.02], [0.01, np.nan]]))
    assert found["instances"] == 2 and found["equal"] == 1
    assert found["mean_gap"] == pytest.approx(0.005) and found["largest_gap"] == 0.01
    assert found["mean_over_bound"] == found["largest_over_bound"] == pytest.approx(0.02)
