"""Suites that come from elsewhere. Each test runs a process of its own: plug-ins stay loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LAMPS = Path(__file__).parent / "my_suite.py"
BROKEN = "raise RuntimeError('no licence')\n"


def db1(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    start = "from db1.cli.main import main; main()"
    command = [sys.executable, "-c", start, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def installed(folder: Path, name: str, text: str, value: str | None = None) -> Path:
    """A package with an entry point, laid out as pip does."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[db1.suites]\n{name} = {value or name}\n")
    return folder


def path_with(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, sys.path)])


def test_a_file_brings_a_suite_to_every_verb(tmp_path: Path) -> None:
    listed = db1("tasks", "--suite", "lamps", "--json", "--plugin", str(LAMPS), cwd=tmp_path)
    assert [row["id"] for row in json.loads(listed.stdout)] == ["lamps/Match"]
    checked = db1("tasks", "check", "lamps", f"--plugin={LAMPS}", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    assert "9 of 9 checks passed" in checked.stdout
    made = db1(
        "collect", "lamps/Match", "--episodes", "3", "--reference-episodes", "2", "--out", "data",
        "--plugin", str(LAMPS), cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    references = json.loads((tmp_path / "data/lamps/Match/references.json").read_text())
    assert references["expert"]["mean"] == 8.0 > references["random"]["mean"]


def test_an_installed_package_brings_one(tmp_path: Path) -> None:
    folder = installed(tmp_path / "site", "my_lamps", LAMPS.read_text())
    listed = db1("tasks", "--suite", "lamps", "--json", cwd=tmp_path, PYTHONPATH=path_with(folder))
    assert [row["id"] for row in json.loads(listed.stdout)] == ["lamps/Match"], listed.stderr


def test_a_broken_installed_one_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    folder = installed(tmp_path / "site", "broken", BROKEN)
    installed(folder, "my_lamps", LAMPS.read_text())
    installed(folder, "more_lamps", LAMPS.read_text())
    outcome = db1("tasks", "check", "lamps", cwd=tmp_path, PYTHONPATH=path_with(folder))
    assert outcome.returncode == 0
    lines = [line for line in outcome.stderr.splitlines() if "plug-in" in line]
    assert len(lines) == 2
    assert any("broken (broken)" in line and "no licence" in line for line in lines)
    assert any("suite 'lamps' is registered twice, by plug-in" in line for line in lines)


@pytest.mark.parametrize(
    "text, expected",
    [
        (BROKEN, "cannot be imported (RuntimeError: no licence)"),
        ("import sys; sys.exit(3)\n", "cannot be imported (SystemExit: 3)"),
        ("x = 1\n", "it registers nothing"),
        (LAMPS.read_text().replace('"lamps", "none"', '"tsp", "none"'), "calls itself 'tsp'"),
        (LAMPS.read_text().replace('register("lamps")', 'register("tsp")'), "registered twice"),
        (None, "no such file"),
    ],
)
def test_one_that_was_asked_for_is_an_error(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "suite.py").write_text(text)
    outcome = db1("tasks", "--counts", "--plugin", "suite.py", cwd=tmp_path)
    assert outcome.returncode == 2
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("db1: error:")]
    assert len(lines) == 1 and expected in lines[0] and "suite.py" in lines[0]


def test_an_option_without_a_place_is_an_error(tmp_path: Path) -> None:
    outcome = db1("tasks", "--plugin", cwd=tmp_path)
    assert outcome.returncode == 2 and "--plugin: got nothing, expected" in outcome.stderr
