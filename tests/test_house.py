"""The house's own rules, counted over the code itself: docstrings' prose and their shapes."""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import db1

PACKAGE = Path(db1.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
CLAUSE = re.compile(
    r"\W*(what|how|where|whether|who|whom|whose|that|if|when|which|why|while|because|whatever"
    r"|whoever|whichever)\b",
    re.IGNORECASE,
)
"""Openings of a docstring that is neither a verb nor a noun phrase."""


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring: of modules, classes, functions, and behind names."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield body[0].lineno, text
        for before, after in itertools.pairwise(body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                    yield after.lineno, after.value.value


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    found = [(path, *each) for path, tree in TREES.items() for each in _docstrings(tree)]
    assert len(found) > 3000
    clauses = [
        f"{path.relative_to(PACKAGE)}:{line}: {text.splitlines()[0]}"
        for path, line, text in found
        if CLAUSE.match(text)
    ]
    assert not clauses, "\n".join(clauses)


def test_a_clause_is_found() -> None:
    tree = ast.parse('"""Things."""\nX = 1\n"""What X is."""\ndef f():\n    """Whether f."""')
    texts = [text for _, text in _docstrings(tree)]
    assert texts == ["Things.", "What X is.", "Whether f."]
    assert [bool(CLAUSE.match(text)) for text in texts] == [False, True, True]


ARRAY = re.compile(r"\b(ndarray|NDArray|ArrayLike|Tensor)\b")
LEAST_SHARE = 0.85
_TERM = r"(?:\*?[A-Za-z_][\w.]*(?:\([\w ]+\)|\[\w+\])?|\d+|\.\.\.)"
_SIZE = rf"{_TERM}(?: ?[-+*/] ?{_TERM}|\*\*{_TERM})*"
_SIZES = rf"{_SIZE}(?:, {_SIZE})*,?"
_TUPLE = re.compile(rf"\(({_SIZES})\)|\[({_SIZES})\]")
_SYMBOL = re.compile(
    r"(?<!\w)(?:[A-Z]\d?|[a-z]|nu|num_\w+|\*\w+|\w+_(?:size|width|dim)|height|width|size"
    r"|\d+, \d+, \d+|\.\.\.)(?![\w(])"
)
_AFTER_DTYPE = re.compile(r"(?:int|float|bool)\d*,? \(\d+(?:, \d+)*,?\)")


def states_shape(text: str) -> bool:
    """Finds `[B, T]`, `(N, 3)`, `(num_steps,)` and the like, but neither prose nor intervals."""
    for match in _TUPLE.finditer(text):
        sizes = match[1] or match[2]
        is_shape = sizes.endswith(",") or ("," in sizes and _SYMBOL.search(sizes))
        if is_shape:
            return True
    return _AFTER_DTYPE.search(text) is not None


def _public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _has_arrays(function: ast.FunctionDef) -> bool:
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    return any(ARRAY.search(ast.unparse(each)) for each in annotations if each is not None)


def _comments(source: str) -> dict[int, str]:
    """Comments by line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def test_shapes_of_arrays_are_stated() -> None:
    """Counted over public functions and methods whose annotations name an array or a tensor."""
    stated, silent = 0, []
    for path, tree in TREES.items():
        comments = _comments(path.read_text())
        for function in _public_functions(tree.body):
            if not _has_arrays(function):
                continue
            lines = range(function.lineno, (function.end_lineno or 0) + 1)
            texts = [ast.get_docstring(function) or "", *(comments.get(n, "") for n in lines)]
            if any(map(states_shape, texts)):
                stated += 1
            else:
                silent.append(f"{path.relative_to(PACKAGE)}:{function.lineno} {function.name}")
    share = stated / (stated + len(silent))
    print(f"{stated} of {stated + len(silent)} functions state shapes: {100 * share:.1f} %")
    assert stated > 300
    assert share >= LEAST_SHARE, "\n".join(silent)


def test_what_counts_as_a_shape() -> None:
    shapes = ("ids [B, T]", "(N, 3)", "int32 (T + 1,)", "(..., D)", "uint8 (64, 64)", "(K / 2,)")
    prose = ("in [0, 1]", "[first, last)", "(see above)", "(PPO, DQN)", "Vaswani (et al, 2017)")
    assert all(map(states_shape, shapes))
    assert not any(map(states_shape, prose))


def _long_functions(tree: ast.Module, most: int) -> Iterator[tuple[int, str]]:
    """Line and name of every function with more than `most` lines, its docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            if lines > most:
                yield node.lineno, f"{node.name}: {lines} lines"


def test_functions_have_60_lines_at_most() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path, tree in TREES.items()
        for line, name in _long_functions(tree, 60)
    ]
    assert not found, "\n".join(found)


def test_a_long_function_is_found() -> None:
    tree = ast.parse('def f():\n    """Long\n    docstring."""\n    a = 1\n    return a')
    assert list(_long_functions(tree, 2)) == [(1, "f: 3 lines")]
    assert list(_long_functions(tree, 3)) == []


def test_no_room_has_more_than_a_tenth_of_the_lines() -> None:
    lines = Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).parts
        lines[parts[0] if len(parts) > 1 else "base"] += path.read_text().count("\n")
    room, most = lines.most_common(1)[0]
    assert most <= lines.total() / 10, f"{room}/ has {most} of {lines.total()} lines"
