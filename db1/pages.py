"""One frame for every HTML page, and pictures inside of pages.

A page is a file of its own, or served by this machine; nothing is fetched from elsewhere, whatever
a task or a caption is called. Texts are escaped by Jinja2.
"""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path
from typing import Any

POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
"""Of pages that are one file."""


def page(
    title: str,
    body: str,
    *,
    style: str = "",
    script: str = "",
    style_file: str | None = None,
    script_file: str | None = None,
) -> str:
    """Builds a whole HTML file.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS inside of the page.
        script: JavaScript inside of the page, run when the page is there.
        style_file: Address of a style on the same server; the page has no policy of its own then.
        script_file: Address of a script on the same server.
    """
    from markupsafe import Markup

    is_served = style_file is not None or script_file is not None
    return _template("frame.html").render(
        title=title,
        body=Markup(body),
        style=Markup(style),
        script=Markup(script),
        style_file=style_file,
        script_file=script_file,
        policy=None if is_served else Markup(POLICY),
    )


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes of a file as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def image_uri(picture: Any, kind: str = "PNG", **options: Any) -> str:
    """A PIL image as a data URI.

    Args:
        picture: `PIL.Image.Image`.
        kind: `PNG`, `JPEG` or `WEBP`.
        options: Of `Image.save`.
    """
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return data_uri(buffer.getvalue(), f"image/{kind.lower()}")


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> Any:
    return _environment().get_template(name)
