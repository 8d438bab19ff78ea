"""Plug-ins: suites and other parts that come from an installed package, a file, or a module.

    entry point    [project.entry-points."db1.suites"]  mine = "my_package.suite"
    file, module   --plugin my_suite.py, --plugin my_package.suite; `plugins:` in a YAML

A plug-in is a module that registers something when it is imported: a `Suite`
(`SUITES.register(name)(suite)`) with its experts (`EXPERTS`), a training callback (`CALLBACKS`), an
evaluation metric (`METRICS`), a position encoding (`POSITION_ENCODINGS`). An installed one that
fails is named in a warning, and everything else goes on; one that was asked for is an error.

They are loaded when a suite is looked up first, not while db1 is being imported, so that they can
import all of it. Processes that this one starts load the same plug-ins, for their names go with the
environment variables (`db1.runtime.plugin_places`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from db1.errors import ConfigError, Db1Error
from db1.files import resolved
from db1.registration import register_tasks
from db1.registry import Registry, registrations
from db1.runtime import add_plugin_place, plugin_places
from db1.suites.base import SUITES
from db1.suites.known_code import is_known, remember

logger = logging.getLogger(__name__)

GROUP = "db1.suites"
LOADED: Registry[tuple[str, ...]] = Registry("plug-in")
"""Names of the suites that each plug-in brought, by its place."""


def load_installed_plugins() -> None:
    """Loads the plug-ins of all installed packages and those that the parent process had."""
    for point in importlib.metadata.entry_points(group=GROUP):
        place = f"{point.name} ({point.value})"
        try:
            _load(place, point.load)
        except ConfigError as error:
            logger.warning("%s; the other suites go on", error)
    for place in plugin_places():
        try:
            load_plugin(place)
        except ConfigError as error:
            logger.warning("%s; the other suites go on", error)


def load_plugins(places: Iterable[str]) -> None:
    """Loads several plug-ins, see `load_plugin`."""
    for place in places:
        load_plugin(place)


def load_run_plugins(config: Mapping[str, Any], tasks: Iterable[str] = ()) -> None:
    """Loads the plug-ins that a run's configuration names, where they are known on this machine.

    Others are code of whoever shared the run: they are named in a warning, as is a file that is
    gone, and not loaded.

    Args:
        config: The run's configuration.
        tasks: Further tasks that will be played.

    Raises:
        ConfigError: A task `gym/MODULE:ID` whose module lies in the working folder and is unknown.
    """
    for place in map(str, _listed(config.get("plugins"))):
        whole = _whole(place)
        if place.endswith(".py") and not Path(place).is_file():
            logger.warning("plug-in %s of the run is not here; name it with --plugin", place)
        elif whole in LOADED or whole in plugin_places() or is_known(place):
            load_plugin(place)
        else:
            logger.warning(
                "plug-in %s of the run is code that was not used on this machine before; not "
                "loaded: look at it, and pass --plugin %s",
                place,
                place,
            )
    check_modules([*tasks, *_tasks_of(config)])


def check_modules(tasks: Iterable[str]) -> None:
    """Refuses tasks out of files whose module in the working folder nobody named before.

    Raises:
        ConfigError: Naming the task `gym/MODULE:ID` and what to do.
    """
    for task in tasks:
        name = task.removeprefix("gym/") if task.startswith("gym/") else ""
        module = name.rpartition(":")[0]
        if module and module not in sys.modules and not is_known(module):
            raise ConfigError(
                f"{task}: would import {module} from {Path.cwd()}, code that was not used "
                f"on this machine before; look at it, and run `db1 tasks check {task}` to use it"
            )


def _tasks_of(config: Mapping[str, Any]) -> list[str]:
    """Tasks that a configuration names, however broken it is."""
    data = config.get("data")
    data = data if isinstance(data, Mapping) else {}
    suites = data.get("suites")
    gym = suites.get("gym") if isinstance(suites, Mapping) else None
    inside = gym.get("tasks") if isinstance(gym, Mapping) else None
    return [*map(str, _listed(data.get("tasks"))), *(f"gym/{name}" for name in _listed(inside))]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | Mapping) else []


def _whole(place: str) -> str:
    """The place by which a plug-in is known."""
    return str(resolved(place)) if place.endswith(".py") else place


def load_plugin(place: str | Path) -> tuple[str, ...]:
    """Loads a plug-in once; what it registers is there from then on, in children too.

    Args:
        place: A .py file, or the name of a module that can be imported (also from the working
            folder).

    Returns:
        Names of the suites that it brought.

    Raises:
        ConfigError: When it is not there, raises, registers nothing, or a name that is taken.
    """
    place = str(place)
    whole = _whole(place)
    if whole not in LOADED:
        remember(whole)
        _load(whole, partial(import_place, whole))
    add_plugin_place(whole)
    return LOADED[whole]


def import_place(place: str) -> ModuleType:
    """Imports a .py file, or a module by its name (also one of the working folder).

    Raises:
        ConfigError: When there is no such file; whatever the module raises.
    """
    if place.endswith(".py"):
        return _import_file(resolved(place))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(place)


def _load(place: str, do_import: Callable[[], Any]) -> None:
    """Imports a plug-in and notes which suites it brought.

    Raises:
        ConfigError: Naming the plug-in, and what is wrong with it.
    """
    before = set(SUITES)
    try:
        with registrations() as registered:
            do_import()
    except Db1Error as error:
        raise ConfigError(f"plug-in {place}: {error}{_owner(str(error))}") from error
    except BaseException as error:  # somebody else's module may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"plug-in {place}: cannot be imported ({reason})") from error
    brought = tuple(sorted(set(SUITES) - before))
    if not registered:
        raise ConfigError(
            f"plug-in {place}: it registers nothing; a suite, for example, ends with "
            "SUITES.register(NAME)(YourSuite()), from db1.suites import SUITES"
        )
    for name in brought:
        if SUITES[name].name != name:
            raise ConfigError(
                f"plug-in {place}: a suite is registered as {name!r} and calls itself "
                f"{SUITES[name].name!r}, expected one name"
            )
    LOADED.register(place)(brought)
    register_tasks(f"{name}/{task}" for name in brought for task in SUITES[name].task_names())


def _owner(message: str) -> str:
    """Names the other plug-in that has the suite of an error."""
    for place in LOADED:
        if any(f"suite {name!r} is registered twice" in message for name in LOADED[place]):
            return f", by plug-in {place}"
    return ""


def _import_file(path: Path) -> ModuleType:
    """Imports a file under a name of its own, with its folder on the path for its neighbours."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    name = f"db1_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
