"""The browser of the tests sees what it should see."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<title>t</title>
<style>:root {{ color-scheme: light dark }} body {{ margin: 0 }}
@media (prefers-color-scheme: dark) {{ body {{ background: rgb(1, 2, 3) }} }}</style></head>
<body><div style="width: 500px">x</div>{more}</body></html>"""


def test_width_and_colours(browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(more=""))
    browser.open(page, width=375, dark=True)
    background = "return getComputedStyle(document.body).backgroundColor"
    assert browser.overflow() == 125 and browser.script(background) == "rgb(1, 2, 3)"
    browser.check()
    browser.open(page)
    assert browser.overflow() == 0 and browser.script(background) == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize(
    "more",
    [
        "<script>throw new Error('no')</script>",
        "<script>console.error('no')</script>",
        "<script>fetch('http://127.0.0.1:9/x').catch(() => 0)</script>",
    ],
)
def test_complaints_are_seen(browser, tmp_path: Path, more: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(more=more))
    browser.open(page)
    with pytest.raises(AssertionError):
        browser.check()
