"""Held-out text."""

from __future__ import annotations

from db1.report.blocks import Cell, Column, Section, Table
from db1.report.material import Material

_COLUMNS = (
    Column(title="corpus", is_text=True, is_main=True),
    Column(title="perplexity", is_main=True),
    Column(title="unigram"),
    Column(title="ratio"),
    Column(title="bits per byte"),
    Column(title="tokens"),
)
_FORMATS = {
    "perplexity": ".2f",
    "unigram_perplexity": ".2f",
    "ratio": ".3f",
    "bits_per_byte": ".3f",
    "num_tokens": ",",
}


def text(material: Material) -> Section | None:
    """Perplexity of each corpus beside the unigram model's."""
    scores = material.results.get("text")
    if not scores or not scores.get("corpora"):
        return None
    groups = dict(scores["corpora"])
    if len(groups) > 1:
        groups["all corpora"] = scores
    rows = tuple(
        (
            Cell(text=name, key=name),
            *(_cell(entry.get(key), form) for key, form in _FORMATS.items()),
        )
        for name, entry in groups.items()
    )
    table = Table(
        name="text",
        caption="Held-out text; ratio is perplexity over that of the unigram model",
        columns=_COLUMNS,
        rows=rows,
    )
    return Section(name="text", title="Text", blocks=(table,))


def _cell(value: float | None, form: str) -> Cell:
    return Cell(text="-") if value is None else Cell(text=f"{value:{form}}", key=value)
