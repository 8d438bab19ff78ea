"""The sections of a report in their order; each is one function `Material -> Section | None`."""

from __future__ import annotations

from collections.abc import Callable

from db1.report.blocks import Section
from db1.report.material import Material
from db1.report.sections.comparison import comparison
from db1.report.sections.films import films
from db1.report.sections.pictures import captions, questions
from db1.report.sections.provenance import provenance, settings
from db1.report.sections.published import published
from db1.report.sections.scores import suites, threshold
from db1.report.sections.tasks import tasks
from db1.report.sections.text import text
from db1.report.sections.training import training
from db1.report.sections.troubles import references, troubles

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    troubles,
    threshold,
    suites,
    comparison,
    tasks,
    films,
    text,
    captions,
    questions,
    training,
    published,
    references,
    settings,
    provenance,
)
"""None where there is nothing to tell."""
