"""The house's own rules, counted over the code itself: prose of docstrings."""

from __future__ import annotations

import ast
import itertools
import re
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
