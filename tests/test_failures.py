"""What the system and libraries say, in one plain line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from db1.errors import DataError
from db1.failures import WriteError, describe, make_folder, one_line, writing
from db1.files import atomic_write_text

PLACES = {
    "below a file": ("file/x.txt", "Not a directory"),
    "a folder": ("folder", "Is a directory"),
    "a loop of links": ("loop/x.txt", "Too many levels of symbolic links"),
    "a long name": ("n" * 300, "File name too long"),
}


@pytest.mark.parametrize("place", PLACES)
def test_files_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    name, reason = PLACES[place]
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(WriteError) as caught:
        atomic_write_text(tmp_path / name, "text")
    assert str(caught.value) == f"{tmp_path / name}: cannot be written ({reason})"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from db1.files import atomic_write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: atomic_write_text(sys.argv[1], 'x' * 1000)\n"
        "except OSError as error: print(error)\n"
    )
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == f"{path}: cannot be written (File too large)\n", done.stderr
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_folders_above_a_file_are_made(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a/b/c.txt", "text")
    assert (tmp_path / "a/b/c.txt").read_text() == "text"
    assert make_folder(tmp_path / "d/e").is_dir()


def test_a_write_error_is_both_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, writing(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(caught.value, OSError) and caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a/b"), "a/b: cannot be read or writ"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError("Unable to allocate 8.00 TiB"), "not enough memory (Unable to allocate 8.00"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4398046511104 bytes. Error code 12"
            ),
            "not enough memory (4,096.0 GiB asked for)",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."), "(20.00 GiB asked for)"),
        (RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed"),
         "a file of tensors cannot be written"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (DataError("as it is"), "as it is"),
    ],
)  # fmt: skip
def test_translations(error: Exception, text: str) -> None:
    found = describe(error)
    assert found is not None and text in found and "enforce" not in found


def test_a_bug_is_not_translated() -> None:
    assert describe(KeyError("a")) is None and describe(RuntimeError("something else")) is None


def test_one_line_shows_control_characters() -> None:
    assert one_line("a\nb\x1b[2J\tc\x07") == r"a b\x1b[2J c\x07"
