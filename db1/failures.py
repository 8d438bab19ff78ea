"""Failures of the system and of libraries in one plain line, and standard streams that are there.

Everything that writes a file outside of stores and checkpoints does so inside `writing(path)`: a
full disk, a read-only folder, a folder in the file's place or a loop of links is then an error that
names the file. What still arrives at the command line is translated by `describe`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from db1.errors import DataError, Db1Error

_TORCH_MEMORY = re.compile(
    r"can't allocate memory: you tried to allocate (\d+) bytes|Tried to allocate ([\d.]+ \w+)"
)
_TORCH_FILE = re.compile(r"(?:enforce fail at|PytorchStreamWriter|unexpected pos|inline_container)")


class WriteError(DataError, OSError):
    """A file that cannot be written; an OSError, too, for whoever gets along without the file."""


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turns an OSError inside the block into an error that names the file.

    Raises:
        WriteError: `PATH: cannot be written (No space left on device)`.
    """
    try:
        yield
    except Db1Error:
        raise
    except OSError as error:
        failure = WriteError(f"{path}: cannot be written ({reason_of(error)})")
        failure.errno = error.errno
        raise failure from error


def make_folder(path: Path | str) -> Path:
    """Makes a folder and those above it, where they are missing; returns it.

    Raises:
        WriteError: When it cannot be made.
    """
    with writing(path):
        mkdir(Path(path))
    return Path(path)


def mkdir(path: Path) -> None:
    """Makes a folder; an OSError says what is in the way, not that it exists."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        os.stat(path)  # a loop of links
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def reason_of(error: OSError) -> str:
    """The system's words for an error, without number and file."""
    if error.strerror:
        return error.strerror
    if error.errno:
        return os.strerror(error.errno)
    return one_line(str(error)) or type(error).__name__


def describe(error: BaseException) -> str | None:
    """One line for what the system or a library raised; None for what only a bug raises."""
    if isinstance(error, Db1Error):
        return str(error)
    if isinstance(error, MemoryError):
        return _memory(one_line(str(error)))
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, UnicodeDecodeError):
        return f"the input is not UTF-8 text (byte {error.start}: {error.reason})"
    if isinstance(error, UnicodeEncodeError) and "surrogate" in error.reason:
        return (
            f"{error.object[max(0, error.start - 20) : error.end]!r}: not valid Unicode, which "
            "cannot be written as UTF-8"
        )
    if isinstance(error, RuntimeError):
        return _of_torch(str(error))
    return None


def _of_system(error: OSError) -> str:
    if error.filename is None:
        return reason_of(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    other = f" -> {error.filename2}" if error.filename2 else ""
    return f"{name}{other}: cannot be read or written ({reason_of(error)})"


def _of_torch(text: str) -> str | None:
    if found := _TORCH_MEMORY.search(text):
        return _memory(found[2] or f"{int(found[1]) / 2**30:,.1f} GiB")
    if "out of memory" in text.lower() or "Storage size calculation overflowed" in text:
        return _memory("")
    if _TORCH_FILE.search(text):
        return "a file of tensors cannot be written or read (is the disk full?)"
    return None


def _memory(wanted: str) -> str:
    asked = f" ({wanted} asked for)" if wanted else ""
    return f"not enough memory{asked}; take smaller sizes, or a machine with more of it"


def one_line(text: str) -> str:
    """Text as one line that a terminal can show: no line breaks, no control characters."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def open_standard_streams() -> None:
    """Puts the null device where standard input, output or errors are closed.

    Without it, the next file that is opened takes the free descriptor, and what libraries print
    lands in that file.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def flush_standard_output() -> str | None:
    """Writes what is still buffered; returns why that is impossible, and gives the stream up then.

    A reader that went away is no fault.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        give_up_standard_output()
        if error.errno in (errno.EPIPE, errno.ESHUTDOWN):
            return None
        return f"standard output: cannot be written ({reason_of(error)})"
    except ValueError:  # closed by somebody
        return None
    return None


def give_up_standard_output() -> None:
    """Sends what still comes to the null device, or the interpreter would complain at its end."""
    with suppress(OSError, ValueError, io.UnsupportedOperation):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
