"""Cached indices are found by content, never half there, and built again when damaged."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from db1.index.index import sample_index
from db1.index.index_cache import IndexCache

SIZES = np.arange(1, 400)


@pytest.fixture
def builds() -> list[int]:
    return []


def _get(cache: IndexCache, builds: list[int], length: int = 7, sizes: np.ndarray = SIZES):
    def build() -> np.ndarray:
        builds.append(length)
        return sample_index(sizes, length)

    return cache.array("samples", build, parameters={"length": length}, inputs={"sizes": sizes})


def test_is_built_once_and_mapped(tmp_path: Path, builds: list[int]) -> None:
    first, second = (_get(IndexCache(tmp_path), builds) for _ in range(2))
    np.testing.assert_array_equal(first, sample_index(SIZES, 7))
    np.testing.assert_array_equal(second, first)
    assert builds == [7] and isinstance(second, np.memmap) and not second.flags.writeable
    (file,) = (tmp_path / ".index").iterdir()
    np.testing.assert_array_equal(np.load(file), first)  # NumPy reads it too


def test_other_content_is_another_entry(tmp_path: Path, builds: list[int]) -> None:
    changed = SIZES.copy()
    changed[5] += 1
    cache = IndexCache(tmp_path)
    for arguments in ((7, SIZES), (8, SIZES), (7, changed), (7, SIZES.astype(np.int32))):
        np.testing.assert_array_equal(
            _get(cache, builds, *arguments), sample_index(arguments[1], arguments[0])
        )
    assert builds == [7, 8, 7, 7]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header", "swap"])
def test_damage_is_found_and_mended(
    tmp_path: Path, builds: list[int], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("db1").propagate = True
    _get(IndexCache(tmp_path), builds)
    (file,) = (tmp_path / ".index").iterdir()
    whole = file.read_bytes()
    _get(IndexCache(tmp_path), builds, 8)
    (other,) = set((tmp_path / ".index").iterdir()) - {file}
    damaged = {
        "flip": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:],
        "cut": whole[:-1],
        "empty": b"",
        "header": b"\x93NUMPY\x01\x00\x10\x00garbage" + whole[17:],
        "swap": other.read_bytes(),  # a whole file under a name that is not its own
    }[damage]
    file.write_bytes(damaged)
    got = _get(IndexCache(tmp_path), builds)
    np.testing.assert_array_equal(got, sample_index(SIZES, 7))
    assert builds == [7, 8, 7] and file.read_bytes() == whole
    assert "building this index again" in caplog.text


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB1_CACHE", str(tmp_path / "elsewhere"))
    for _ in range(2):
        _get(IndexCache(Path("/proc/self")), builds)
    assert builds == [7] and len(list((tmp_path / "elsewhere" / "index").iterdir())) == 1
    monkeypatch.setenv("DB1_CACHE", "/proc/self/nowhere")
    got = _get(IndexCache(), builds)
    np.testing.assert_array_equal(got, sample_index(SIZES, 7))
    assert builds == [7, 7] and not got.flags.writeable


def test_empty_arrays(tmp_path: Path) -> None:
    for _ in range(2):
        got = IndexCache(tmp_path).array("none", lambda: np.empty((0, 2), np.int64))
        assert got.shape == (0, 2) and got.dtype == np.int64


SCRIPT = """
import sys, time
import numpy as np
from pathlib import Path
from db1.index.index_cache import IndexCache
def build():
    Path(sys.argv[1], f"building-{sys.argv[2]}").touch()
    time.sleep(0.2)
    return np.arange(3_000_000)
for _ in range(int(sys.argv[3])):
    array = IndexCache(Path(sys.argv[1])).array("numbers", build, parameters={"n": 3})
    assert array[-1] == 2_999_999 and len(array) == 3_000_000
print("whole")
"""


def _start(folder: Path, name: str, times: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), name, str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def test_processes_that_build_at_once_and_one_that_is_killed(tmp_path: Path) -> None:
    killed = _start(tmp_path, "killed")
    while not (tmp_path / "building-killed").exists():
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    running = [_start(tmp_path, str(i), 3) for i in range(3)]
    assert [process.communicate()[0] for process in running] == ["whole\n"] * 3
    assert [path.suffix for path in (tmp_path / ".index").iterdir()] == [".npy"]


def test_old_leftovers_are_removed(tmp_path: Path, builds: list[int]) -> None:
    folder = tmp_path / ".index"
    folder.mkdir()
    old, new = folder / ".a.npy.1.tmp", folder / ".a.npy.2.tmp"
    for path in (old, new):
        path.write_bytes(b"torn")
    os.utime(old, (0, 0))
    _get(IndexCache(tmp_path), builds)
    assert not old.exists() and new.exists()
