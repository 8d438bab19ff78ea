"""results.json of another shape, node by node: a report of what is left, or one clear error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_report import CAPTIONS, QUESTIONS, RETURNS, make_results

from db1.cli.scores import other_lines
from db1.errors import Db1Error
from db1.evaluation.results import read_results
from db1.report.html import html_page
from db1.report.markdown import markdown
from db1.report.material import gather
from db1.report.write import build_document

GONE = object()


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every node below the root; of lists the first item."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, inner in list(items):
        yield (*place, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*place, key))


def _whole() -> dict[str, Any]:
    results = make_results({"toy/best": RETURNS["toy/best"]})
    control = {key: results[key] for key in ("tasks", "summary", "failures")}
    compared = {"model": 1, "control": 0, "neither": 0}
    results["controls"] = {"random": {"settings": {}, "compared": compared, **control}}
    results["captions"] = {"toy": CAPTIONS}
    results["questions"] = {"toy": QUESTIONS}
    return json.loads(json.dumps(results))


def _changed(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    results = _whole()
    node = results
    for key in place[:-1]:
        node = node[key]
    if value is GONE:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return results


@pytest.mark.parametrize("value", [GONE, None, "x", 0.5, [], {}])
def test_a_report_or_one_clear_error(tmp_path: Path, value: Any) -> None:
    faults = []
    for place in _places(_whole()):
        (tmp_path / "results.json").write_text(json.dumps(_changed(place, value)))
        try:
            results = read_results(tmp_path)
            list(other_lines(results))
            document = build_document(gather(tmp_path, (), run=None, film_bytes=0))
            markdown(document, ())
            html_page(document)
        except Db1Error as error:
            assert str(tmp_path) in str(error) or "results.json" in str(error), (place, error)
        except Exception as error:
            faults.append(f"{'.'.join(map(str, place))}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)
