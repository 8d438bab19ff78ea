"""results.json -> what people read: one HTML page, Markdown, LaTeX tables.

    results.json, recordings, metrics  --sections/-->  Section(title, blocks)
    blocks  --html.py / markdown.py / latex.py-->  one renderer a format

A section is one function in `sections/`, entered in `SECTIONS`; it knows nothing of formats. A kind
of block is one dataclass in `blocks.py` with a function in each renderer.
"""

from __future__ import annotations

from db1.report.wording import headline
from db1.report.write import write_report

__all__ = ["headline", "write_report"]
