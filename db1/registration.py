"""All tasks as environments of Gymnasium: `gymnasium.make("db1/babyai/GoToLocal")`.

`import db1` sees to it that they are registered as soon as Gymnasium is imported, whichever of the
two comes first (`register_with_gymnasium`). `db1:db1/babyai/GoToLocal` imports db1, too.

Gymnasium's grammar of ids, `[namespace/](name)-v(version)`, has one slash. `_widen_grammar` lets it
read `db1/<suite>` as a namespace; all other ids keep their meaning.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

NAMESPACE = "db1"
_SUITES = "db1.suites"
"""Registers its tasks when it is imported."""


def register_with_gymnasium() -> None:
    """Registers all tasks now where Gymnasium is imported, else right after its import."""
    if "gymnasium" in sys.modules:
        _register_all()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def register_tasks(tasks: Iterable[str]) -> None:
    """Enters tasks into Gymnasium's registry; what is there already stays.

    Args:
        tasks: Task ids.
    """
    from gymnasium.envs import registration

    _widen_grammar(registration)
    for task in tasks:
        name = f"{NAMESPACE}/{task}"
        if name not in registration.registry:
            registration.registry[name] = registration.EnvSpec(
                id=name, entry_point=f"{_SUITES}:make_registered", kwargs={"task_id": task}
            )


def _register_all() -> None:
    """Imports the suites, which registers them, and looks them up, which loads plug-ins."""
    list(importlib.import_module(_SUITES).SUITES)


def _widen_grammar(registration: ModuleType) -> None:
    pattern = registration.ENV_ID_RE.pattern
    own = rf"(?P<namespace>{NAMESPACE}/[\w-]+|"
    if own not in pattern:
        registration.ENV_ID_RE = re.compile(pattern.replace("(?P<namespace>", own, 1))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds gymnasium as the other finders do, and registers the tasks when it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and what happens after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if _SUITES not in sys.modules:  # else it is being imported, and registers when it is whole
            _register_all()
