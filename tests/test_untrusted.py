"""Names out of files stay below the folder that they are joined to."""

import os
from pathlib import Path

import pytest

from db1.errors import ConfigError, DataError
from db1.untrusted import below, check_name, check_relative, refuse_links_out

OUTSIDE = ["../x", "/etc/passwd", "a/../../x", "..", "", "\\\\host\\x", "a\0b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    for check in (below, lambda folder, name: check_relative(name, folder)):
        with pytest.raises(DataError, match="leads out of its folder; refused"):
            check(tmp_path, name)


@pytest.mark.parametrize("name", [*OUTSIDE[:5], ".", "a/b", "a\0b"])
def test_a_name_is_one_part(name: str) -> None:
    with pytest.raises(ConfigError, match=r"here: the name .* cannot be that of a file or folder"):
        check_name(name, "here", ConfigError)


def test_names_below(tmp_path: Path) -> None:
    assert below(tmp_path, "a/b.png") == tmp_path / "a/b.png"
    assert check_name("..a b", "here") == "..a b"


def test_links(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    os.symlink(folder, tmp_path / "link")
    assert below(tmp_path / "link", "x") == tmp_path / "link/x"
    (folder / "own").write_text("")
    os.symlink("own", folder / "inside")
    refuse_links_out(tmp_path / "link")
    os.symlink(other, folder / "out")
    for name in ("out", "out/x"):
        with pytest.raises(DataError, match=r"is a link to .*other.*, out of its folder"):
            below(folder, name)
    with pytest.raises(DataError, match=r"folder/out: a link to .*other, out of the folder"):
        refuse_links_out(folder)
    refuse_links_out(folder, but=("out",))


def test_a_pipe_in_a_run_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(DataError, match=r"metrics\.jsonl: is no file and no folder; remove it"):
        refuse_links_out(tmp_path)
