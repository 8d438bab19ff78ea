"""Virtual environments as a stranger has them: the base of setup.sh, extras, db1 as a wheel.

from fresh_environment import Environments

Nothing is downloaded. The distributions that pip would install are those that the requirements
lead to, from one package's metadata to the next; they are links to those of the environment that
runs the tests, which has everything. pip then says, in the new environment and without an index,
whether all that was asked for is there.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from shown import ROOT

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = float(os.environ.get("DB1_COMMAND_SECONDS", "300"))


@functools.cache
def _files(name: str) -> list[importlib.metadata.PackagePath]:
    return list(_installed()[name].files or ())


@functools.cache
def _installed() -> dict[str, importlib.metadata.Distribution]:
    """Distributions of the environment that runs the tests."""
    found = importlib.metadata.distributions()
    return {canonicalize_name(one.metadata["Name"]): one for one in found}


def distributions(requirements: Iterable[str]) -> set[str]:
    """Names of all distributions that pip installs for some requirements.

    Raises:
        LookupError: The environment that runs the tests lacks one of them.
    """
    waiting = [Requirement(line) for line in requirements]
    waiting = [one for one in waiting if one.marker is None or one.marker.evaluate()]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in _installed():
            raise LookupError(f"{wanted} is not installed here; bash scripts/test.sh --all-suites")
        for extra in {"", *wanted.extras} if (name, "") not in seen else wanted.extras:
            if (name, extra) not in seen:
                seen.add((name, extra))
                needed = map(Requirement, _installed()[name].requires or [])
                waiting += [one for one in needed if _holds(one, extra)]
    return {name for name, _ in seen}


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def base_requirements() -> list[str]:
    """The lines of requirements.txt, which scripts/setup.sh installs."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def extra_requirements(names: Iterable[str]) -> list[str]:
    """Requirements of some extras, by the metadata of the installed db1."""
    needed = map(Requirement, _installed()["db1"].requires or [])
    return [
        str(one).split(";")[0]
        for one in needed
        if any(_holds(one, name) and not _holds(one, "") for name in names)
    ]


def link_distribution(name: str, environment: Path) -> None:
    """Makes a distribution appear in an environment; its scripts run with that Python."""
    site = Path(str(_installed()[name].locate_file("")))
    target = next(environment.glob("lib/python3*/site-packages"))
    for file in _files(name):
        if file.parts[0] == "..":
            source = Path(os.path.normpath(site / file))
            if source.parent == Path(sys.prefix, "bin") and source.is_file():
                _copy_script(source, environment / "bin" / source.name)
            continue
        own = file.parts[0] not in _shared_names()
        place = Path(file.parts[0]) if own else Path(*file.parts)
        if not (target / place).is_symlink():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            (target / place).symlink_to(site / place)


@functools.cache
def _shared_names() -> set[str]:
    """Names at the top of site-packages that several distributions fill, as `google`."""
    owners: dict[str, set[str]] = {}
    for name in _installed():
        for file in _files(name):
            owners.setdefault(file.parts[0], set()).add(name)
    return {top for top, names in owners.items() if len(names) > 1}


def _copy_script(source: Path, place: Path) -> None:
    content = source.read_bytes()
    if content.startswith(b"#!"):
        here = os.fsencode(sys.prefix)
        content = content.replace(here + b"/bin/", os.fsencode(place.parent) + b"/")
    place.write_bytes(content)
    place.chmod(0o755)


class Environments:
    """Environments by the extras that they have beyond the base; each one is made once.

    Args:
        folder: Where they are made.
        base: Requirements of all of them; by default those of scripts/setup.sh.
        has_db1: They have db1 as well, as a wheel of the checkout.
    """

    def __init__(
        self, folder: Path, *, base: Sequence[str] | None = None, has_db1: bool = True
    ) -> None:
        self.folder = folder
        self.base = base_requirements() if base is None else base
        self.has_db1 = has_db1
        self._made: dict[frozenset[str], Path] = {}
        self._wheel: Path | None = None

    def having(self, extras: frozenset[str] = frozenset()) -> Path:
        """The environment with some extras.

        Raises:
            LookupError: The environment that runs the tests lacks a package of them.
            AssertionError: pip does not find what the reader installed, or db1 has no such extra.
        """
        if extras not in self._made:
            names = distributions([*self.base, *extra_requirements(extras)])
            place = self.folder / ("-".join(sorted(extras)) or "base")
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
            for name in names | {"pip"} | _without_dependencies():
                link_distribution(name, place)
            if self.has_db1:
                self._install(place, extras)
            self._made[extras] = place
        return self._made[extras]

    def _install(self, place: Path, extras: frozenset[str]) -> None:
        if self._wheel is None:
            self._wheel = build_wheel(place / "bin/python", self.folder / "built")
        offline = [place / "bin/python", "-m", "pip", "install", "--no-index", "--quiet"]
        asked = [["--no-deps", str(self._wheel)]]
        asked.append([f"db1[{','.join(sorted(extras))}]"] if extras else ["-r", "requirements.txt"])
        for arguments in asked:
            done = subprocess.run(
                [*offline, *arguments], cwd=ROOT, env=variables(place, place), text=True,
                capture_output=True,
            )  # fmt: skip
            said = done.stdout + done.stderr
            assert done.returncode == 0 and "does not provide" not in said, f"{arguments}: {said}"


def _without_dependencies() -> set[str]:
    """Names of what scripts/setup.sh installs with --no-deps, for want of a dependency's build."""
    return {"dm-control"} if sys.version_info >= (3, 13) else set()


def build_wheel(python: Path, folder: Path) -> Path:
    """A wheel of the tracked and new files of the checkout, out of a folder of their own."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    command = [python, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", folder.parent, folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return next(folder.parent.glob("db1-*.whl"))


def variables(environment: Path, home: Path) -> dict[str, str]:
    """The variables of a shell that has activated an environment, without those of the tests."""
    return {
        "PATH": f"{environment / 'bin'}:{_SYSTEM_PATH}",
        "VIRTUAL_ENV": str(environment),
        "DB1_VENV": str(environment),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HF_HUB_OFFLINE": "1",
    }


_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SERVES = re.compile(r"^(db1 (serve|demo)|tensorboard) ")
"""Commands that serve until they are stopped."""


def typed(command: str, folder: Path, environment: Path, home: Path) -> str | None:
    """Types a command; says what went wrong, or nothing.

    A command that serves is asked for its page once and stopped.
    """
    shell = ["bash", "-c", command]
    given = {"cwd": folder, "env": variables(environment, home), "text": True}
    if SERVES.match(command):
        return _served(shell, given)
    try:
        done = subprocess.run(
            shell, **given, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as late:
        return f"$ {command}\nstill runs after {late.timeout} s"
    if done.returncode == 0:
        return None
    return f"$ {command}\nstatus {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"


def _served(shell: list[str], given: dict[str, Any]) -> str | None:
    """Starts a server, fetches from the address that it prints, and stops it."""
    said: list[str] = []
    with subprocess.Popen(
        ["exec " + part if part == shell[-1] else part for part in shell],
        **given, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as server:  # fmt: skip
        late = threading.Timer(_SECONDS, server.kill)
        late.start()
        try:
            for line in server.stdout:
                said.append(line)
                if address := re.search(r"http://\S+:\d+", line):
                    page = address[0] + ("/health" if " serve " in shell[-1] else "")
                    with _DIRECTLY.open(page, timeout=_SECONDS) as answer:
                        return None if answer.status == 200 else f"{page}: {answer.status}"
            return f"$ {shell[-1]}\nended before it served\n{''.join(said)[-2000:]}"
        finally:
            late.cancel()
            server.terminate()
