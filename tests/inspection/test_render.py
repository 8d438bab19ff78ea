"""Pages and terminal drawings: every token is there, and nothing outside of the file."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from toy_run import make_run, write_all

from db1.inspection.describe import Description
from db1.inspection.page import page
from db1.inspection.pictures import half_blocks, png_uri
from db1.inspection.render_html import sequence_page
from db1.inspection.render_svg import sequence_svg
from db1.inspection.render_text import compact, show_sequence, shown
from db1.inspection.runs import RunData

SVG = "{http://www.w3.org/2000/svg}"


class _Page(HTMLParser):
    """Collects elements, and the text of each cell and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[tuple[dict[str, str | None], str]] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.content = ""
        self._in_cell = self._in_data = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]
        self._in_cell = "cell" in (attributes.get("class") or "").split()
        self._in_data = attributes.get("id") == "tokens"
        if self._in_cell:
            self.cells.append((attributes, ""))
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("meta", "link", "input", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._in_cell = self._in_data = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            attributes, before = self.cells[-1]
            self.cells[-1] = (attributes, before + data)
        if self._in_data:
            self.content += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return make_run(write_all(tmp_path_factory.mktemp("data")))


def _of(run: RunData, task: str) -> Description:
    for n in range(run.num_samples):
        description, _ = run.describe(*divmod(n, run.batch_size))
        if description.sample.source == task:
            return description
    raise AssertionError(task)


@pytest.mark.parametrize("task", ["toy/all", "toy/masked", "psalm"])
def test_a_page_has_a_cell_for_each_token(run: RunData, task: str) -> None:
    description = _of(run, task)
    text = sequence_page(description, "one <b> & two", [])
    parsed = _Page(text)
    assert parsed.open == []
    assert len(parsed.cells) == len(description.tokens) == 81
    assert json.loads(parsed.content) == json.loads(json.dumps(description.to_dict()["tokens"]))
    for (attributes, face), token in zip(parsed.cells, description.tokens, strict=True):
        classes = attributes["class"].split()
        assert attributes["data-n"] == str(token.index)
        assert "k-" + token.kind.replace(" ", "-") in classes
        assert ("loss" in classes) == token.is_target
        assert ("changed" in classes) == (token.label is not None)
        if token.kind in ("number", "action number", "discrete value"):
            assert face == shown(token.value)
    shown_images = {t.image for t in description.tokens if t.image is not None}
    assert len(parsed.images) == len(shown_images)
    assert all(address.startswith("data:") for address in parsed.addresses)
    bare = re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", bare)
    assert "<title>one &lt;b&gt; &amp; two</title>" in text


def test_pictures_are_those_of_the_sample(run: RunData) -> None:
    description = _of(run, "toy/all")
    parsed = _Page(sequence_page(description, "t", []))
    for attributes, image in zip(parsed.images, description.sample.images, strict=False):
        content = attributes["src"].removeprefix("data:image/png;base64,")
        assert attributes["src"] == png_uri(image)
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("shape", [(16, 32, 3), (32, 16, 1), (64, 64, 4), (16, 16, 9)])
def test_half_blocks(shape: tuple[int, int, int]) -> None:
    image = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    lines = half_blocks(image, 16)
    factor = -(-shape[1] // 16)
    assert len(lines) == -(-shape[0] // factor // 2)
    assert all(len(line) == shape[1] // factor for line in lines)
    if shape == (16, 32, 3):
        upper = image[:2, :2].reshape(-1, 3).mean(axis=0).astype(int)
        assert lines[0].spans[0].style.color.triplet == tuple(upper)
    png_uri(image)


def _printed(description: Description, full: bool) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_sequence(description, "title", console, full=full)
    return console.file.getvalue()


def test_the_terminal_shows_the_decoded_values(run: RunData) -> None:
    for task in ("toy/all", "toy/masked", "psalm"):
        description = _of(run, task)
        text, rows = _printed(description, False), _printed(description, True)
        assert all(kind in text for kind in description.counts)
        for token in description.tokens:
            if token.kind in ("number", "action number", "discrete value", "action value"):
                assert shown(token.value) in text
            assert re.search(rf"│ {token.index} +│ {token.id} +│ {token.kind} ", rows)
        assert all(whole in text for whole in description.texts.values())
        if any(token.label is not None for token in description.tokens):
            assert "to predict" in text


def test_a_picture_is_drawn_below_its_line(run: RunData) -> None:
    lines = [line.plain for line in compact(_of(run, "toy/all"))]
    at = next(i for i, line in enumerate(lines) if "patches of image 0" in line)
    assert all("▀" * 16 in line for line in lines[at + 1 : at + 5])


def test_titles_are_escaped() -> None:
    assert "<script>alert" not in page("<script>alert(1)</script>", "")


@pytest.mark.parametrize("task", ["toy/all", "toy/masked", "psalm"])
def test_a_drawing_has_a_block_for_each_token(run: RunData, task: str) -> None:
    description = _of(run, task)
    drawing = ElementTree.fromstring(sequence_svg(description, "one <b> & two"))
    assert "one <b> & two" in drawing.get("aria-label")
    kinds = [rect.get("class") or "" for rect in drawing.iter(f"{SVG}rect")]
    tokens = [token for token in description.tokens if token.part != "padding"]
    legend = {token.kind for token in tokens}
    assert sum(kind.startswith("k-") for kind in kinds) == len(tokens) + len(legend)
    assert kinds.count("loss") == description.num_targets + 1
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    positions = [t.get("class") for t in drawing.iter(f"{SVG}text")].count("position")
    assert positions == sum(token.local_position is not None for token in tokens)
    assert all(f"{t.index}" in " ".join(texts) for t in (tokens[0], tokens[-1]))
    shown_images = {token.image for token in tokens if token.image is not None}
    assert len(list(drawing.iter(f"{SVG}image"))) == len(shown_images)
    patches = [token for token in tokens if token.kind == "image patch"]
    assert len(list(drawing.iter(f"{SVG}use"))) == len(patches)
    right = max(float(r.get("x")) + float(r.get("width")) for r in drawing.iter(f"{SVG}rect"))
    assert right <= float(drawing.get("width"))


@pytest.mark.slow
def test_nobody_stumbles(audit, run: RunData, tmp_path: Path) -> None:
    place = tmp_path / "sequence.html"
    place.write_text(sequence_page(_of(run, "toy/all"), "a sequence", []))
    audit(place)
