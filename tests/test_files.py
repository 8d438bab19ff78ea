"""Safe writes."""

import os
import re
import stat
from pathlib import Path

import pytest

import db1.files
from db1.errors import DataError
from db1.files import atomic_write_text, read_text, resolved


def test_atomic_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "latest"
    atomic_write_text(path, "a long first text")
    atomic_write_text(path, "short")
    assert path.read_text() == "short"
    assert os.listdir(tmp_path) == ["latest"]


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "latest"
    atomic_write_text(path, "old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["latest"]


def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write_text(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    for device in ("/dev/null", "/dev/full"):
        before = os.lstat(device)
        if device == "/dev/full":
            with pytest.raises(DataError, match="/dev/full: cannot be written"):
                atomic_write_text(device, "text")
        else:
            atomic_write_text(device, "text")
        assert os.lstat(device).st_ino == before.st_ino and stat.S_ISCHR(os.lstat(device).st_mode)


def test_a_link_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/other").write_text("old")
    os.symlink(tmp_path / "folder/other", tmp_path / "link")
    atomic_write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder/other").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file"):
        read_text(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)
    (tmp_path / "x").write_text("ä", encoding="utf-8")
    assert read_text(tmp_path / "x") == "ä"


def test_files_of_json_are_read_by_one_function():
    """`parse_json_file` does not wait for a pipe in the place of a file that people share."""
    folder = Path(db1.files.__file__).parent
    own = {folder / "metrics/annotations.py"}  # a user's own file, which may be a pipe
    pattern = re.compile(r"parse_json\(.*\.read_text\(")
    wrong = [str(p) for p in folder.rglob("*.py") if p not in own and pattern.search(p.read_text())]
    assert not wrong, wrong


def test_a_loop_of_links_is_resolved_as_far_as_it_goes(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert resolved(tmp_path / "loop" / "x").parent.name == "loop"
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert resolved(tmp_path / "link" / "x") == tmp_path / "folder" / "x"


def test_paths_are_resolved_by_one_function():
    """`Path.resolve` raises RuntimeError for links in a loop, which no caller expects."""
    folder = Path(db1.files.__file__).parent
    wrong = [str(path) for path in folder.rglob("*.py") if ".resolve(" in path.read_text()]
    assert not wrong, f"db1.files.resolved does it: {wrong}"
