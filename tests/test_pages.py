"""The frame of HTML pages, and pictures inside of them."""

from __future__ import annotations

import base64
import io

from PIL import Image

from db1.pages import POLICY, data_uri, image_uri, page


def test_a_page_of_its_own_escapes_its_title_and_fetches_nothing() -> None:
    text = page("<b> & co", "<p>body</p>", style="p > b { color: red }", script="a && b < c")
    assert "<title>&lt;b&gt; &amp; co</title>" in text
    assert "<p>body</p>" in text and "p > b { color: red }" in text and "a && b < c" in text
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"' in text
    assert 'href="/' not in text and "src=" not in text.replace("-src", "")


def test_a_served_page_names_its_files() -> None:
    text = page("db1", "<p></p>", style_file="/page.css", script_file="/page.js")
    assert '<link rel="stylesheet" href="/page.css">' in text
    assert '<script src="/page.js"></script>' in text
    assert "Content-Security-Policy" not in text and "<style>" not in text


def test_pictures_inside_a_page() -> None:
    assert data_uri(b"abc", "text/plain") == "data:text/plain;base64,YWJj"
    kind, _, content = image_uri(Image.new("RGB", (3, 2), (1, 2, 3))).partition(",")
    assert kind == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == (3, 2) and picture.getpixel((0, 0)) == (1, 2, 3)
