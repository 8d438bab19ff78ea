"""Files that are whole at any moment: the old content, or the new one."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from db1.failures import mkdir, writing


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Writes a file so that a crash at any moment leaves the old file or the new one, whole.

    Folders above it are made. What is there and is no file (a device, a pipe, `/dev/stdout`) is
    never replaced: the bytes are written to it. A link stays, and what it leads to is written;
    names that come out of files go through `db1.untrusted.below` before.

    Raises:
        WriteError: When it cannot be written; nothing is left behind then.
    """
    given = Path(path)
    path = Path(os.path.realpath(given)) if os.path.islink(given) else given
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    with writing(given):
        mkdir(path.parent)
        if _is_special(given):
            with open(given, "wb") as file:
                file.write(data)
            return
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def _is_special(path: Path) -> bool:
    """True for a path that leads to something that is no file, and for the system's own links."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    own = path.is_symlink() and path.absolute().parts[1:2] in (("dev",), ("proc",))
    return own or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def atomic_write_text(path: Path | str, text: str) -> None:
    """`atomic_write_bytes` for UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"))


def read_text(path: Path | str) -> str:
    """The UTF-8 text of a file; what is none is refused, where `Path.read_text` waits for a pipe.

    Raises:
        OSError: It cannot be read, or is no file.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open(path, encoding="utf-8", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no file", str(path))
        return file.read()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def resolved(path: Path | str) -> Path:
    """A path without links and dots; links in a loop stay, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def sync_folder(folder: Path | str) -> None:
    """Flushes a folder's entries (names, renames) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
