"""Two evaluations beside each other."""

from __future__ import annotations

from db1.evaluation.report.blocks import Section
from db1.evaluation.report.material import Material


def comparison(material: Material) -> Section | None:
    """Nothing without another evaluation."""
    if not material.others:
        return None
    return None
