"""results.json -> report.md with plots, one self-contained HTML page, LaTeX tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from db1.failures import make_folder
from db1.files import atomic_write_bytes, atomic_write_text
from db1.report.blocks import Document, Gallery
from db1.report.html import html_page
from db1.report.latex import latex
from db1.report.markdown import markdown
from db1.report.material import Material, gather
from db1.report.plots import score_plot, threshold_plot
from db1.report.sections import SECTIONS
from db1.report.sections.lead import lead
from db1.report.wording import headline
from db1.untrusted import below

REPORT_FILE = "report.md"
THRESHOLD_PLOT = "threshold_curve.png"
SCORE_PLOT = "normalised_scores.png"
FILM_MEGABYTES = 24.0


def write_report(
    folder: Path,
    html: Path | None = None,
    latex_file: Path | None = None,
    *,
    others: Sequence[Path] = (),
    run: Path | None = None,
    film_megabytes: float = FILM_MEGABYTES,
) -> Path:
    """Writes report.md and its plots beside results.json, the page and the tables if asked for.

    Args:
        folder: Folder of results.json.
        html: Where the self-contained page goes; None: no page.
        latex_file: Where the LaTeX tables go; None: none.
        others: Other evaluations to compare with.
        run: The run folder (for its training curves) where it is no longer at its old place.
        film_megabytes: The most megabytes of films in the page.

    Returns:
        The path of report.md.

    Raises:
        DataError: Without results.
    """
    material = gather(folder, others, run=run, film_bytes=int(film_megabytes * 1e6))
    document = build_document(material)
    plots: dict[str, bytes] = {}
    if material.results["summary"]["num_tasks"]:
        results = material.results
        plots = {THRESHOLD_PLOT: threshold_plot(results), SCORE_PLOT: score_plot(results)}
    for name, png in plots.items():
        atomic_write_bytes(below(material.folder, name), png)
    _write_pictures(document, material.folder)
    path = below(material.folder, REPORT_FILE)
    atomic_write_text(path, markdown(document, tuple(plots)))
    for target, render in ((html, html_page), (latex_file, latex)):
        if target is not None:
            make_folder(target.parent)
            atomic_write_text(target, render(document))
    return path


def _write_pictures(document: Document, folder: Path) -> None:
    """Puts the pictures that Markdown points to beside it."""
    for section in document.sections:
        for block in section.blocks:
            for picture in block.pictures if isinstance(block, Gallery) else ():
                if picture.path:
                    path = below(folder, picture.path)
                    make_folder(path.parent)
                    atomic_write_bytes(path, picture.data)


def build_document(material: Material) -> Document:
    """The report, before it has a format."""
    found = (section(material) for section in SECTIONS)
    return Document(
        title=headline(material.results),
        subtitle=material.name,
        lead=lead(material),
        sections=tuple(section for section in found if section is not None),
    )
