"""Names that come out of files which people share, on their way to becoming paths.

    below(out, "captions/coco.json")        out/captions/coco.json
    below(out, "../x"), below(out, "/x")     an error; and so is a link on the way that leads out
    check_name("coco", where)               one part of a path: no "/", no ".."

Whatever a file calls something (a set, a task, an image, a split, a film, a run), the name goes
through here before it is joined to a folder.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from db1.errors import DataError, Db1Error

_SHOWN = 120


def check_name(name: str, where: object, error: type[Db1Error] = DataError) -> str:
    """Checks that a name is one part of a path, and returns it.

    Args:
        name: As the file has it.
        where: The file and the place in it, for the message.
        error: The class to raise.

    Raises:
        Db1Error: Of the class `error`, for an empty name, `.`, `..`, `/` or the character 0.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise error(f"{where}: the name {_shown(name)} cannot be that of a file or folder")
    return name


def check_relative(name: str, where: object, error: type[Db1Error] = DataError) -> str:
    """Checks that a name with folders in front of it stays below where it starts; returns it.

    Raises:
        Db1Error: Of the class `error`, for an empty or absolute path, or one with `..`.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or "\0" in name:
        raise error(f"{where}: {_shown(name)} leads out of its folder; refused")
    return name


def below(folder: Path, name: str, where: object = None, error: type[Db1Error] = DataError) -> Path:
    """Joins an untrusted name to a folder.

    Args:
        folder: Trusted; it may itself be reached through links.
        name: As a file has it, with folders in front of it or without.
        where: The file that has the name, for the message; None: the folder.
        error: The class to raise.

    Returns:
        `folder / name`, which need not exist.

    Raises:
        Db1Error: Of the class `error`, when the path is outside of the folder, by its parts or
            through a link.
    """
    path = folder / check_relative(name, where or folder, error)
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise error(f"{where or folder}: {_shown(name)} is a link to {real}, out of its folder")
    return path


def refuse_links_out(
    folder: Path, *, but: tuple[str, ...] = (), error: type[Db1Error] = DataError
) -> None:
    """Refuses a folder in which a link leads out of it, or that holds a pipe, socket or device.

    What is written to a link lands elsewhere, and who opens a pipe waits for ever.

    Args:
        folder: It may itself be a link.
        but: Entries of the folder that may lie elsewhere.
        error: The class to raise.

    Raises:
        Db1Error: Of the class `error`, naming the first of them.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(root):
        for name in sorted((*folders, *files)):
            path = os.path.join(place, name)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:  # removed meanwhile
                continue
            if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise error(f"{path}: is no file and no folder; remove it")
            if not stat.S_ISLNK(mode) or (place == root and name in but):
                continue
            real = os.path.realpath(path)
            if not Path(real).is_relative_to(root):
                raise error(
                    f"{path}: a link to {real}, out of the folder; replace it by what it leads to"
                )


def _shown(name: str) -> str:
    return repr(name[:_SHOWN] + ("..." if len(name) > _SHOWN else ""))
