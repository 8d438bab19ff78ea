"""Code that only a run names is not run; what somebody named here before is."""

import logging
from pathlib import Path

import pytest

from db1.errors import ConfigError
from db1.suites.known_code import is_known, remember
from db1.suites.plugins import load_run_plugins


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DB1_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_known_by_its_content(folder: Path) -> None:
    (folder / "suite.py").write_text("x = 1\n")
    assert not is_known("suite.py")
    remember("suite.py")
    assert is_known("suite.py")
    (folder / "copy.py").write_text("x = 1\n")
    assert is_known("copy.py")
    (folder / "suite.py").write_text("x = 2\n")
    assert not is_known("suite.py")


def test_a_module_of_the_working_folder(folder: Path) -> None:
    (folder / "my_package_of_a_test").mkdir()
    (folder / "my_package_of_a_test/__init__.py").write_text("raise SystemExit('ran')\n")
    (folder / "my_package_of_a_test/suite.py").write_text("")
    assert not is_known("my_package_of_a_test.suite")
    remember("my_package_of_a_test.suite")
    assert is_known("my_package_of_a_test.suite")
    assert is_known("json") and is_known("numpy.linalg")


def test_plugins_of_a_stranger_are_not_loaded(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    with caplog.at_level(logging.WARNING):
        load_run_plugins({"plugins": ["evil.py", "evil"]})
    assert caplog.text.count("is code that was not used on this machine before") == 2
    with pytest.raises(ConfigError, match="gym/evil:Lamp-v0: would import evil"):
        load_run_plugins({"data": {"tasks": {"gym/evil:Lamp-v0": {}}}})
    with pytest.raises(ConfigError, match="look at it, and run `db1 tasks check"):
        load_run_plugins({}, ["gym/evil:Lamp-v0"])
    load_run_plugins({"plugins": 3, "data": [], "tasks": None})
    assert not (folder / "ran").exists()
