"""The page in a real browser: writing, an image dropped and asked about, an episode watched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], arguments[1]));
const event = new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
document.getElementById("drop").dispatchEvent(event);
"""
TEXT = "return document.getElementById(arguments[0]).textContent"
READY = "return document.body && document.body.dataset.ready"


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    browser.open(address)
    browser.wait_until(READY, seconds=240)
    return browser


def picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_one_writes_asks_and_watches(page: Any, tmp_path: Path) -> None:
    page.find("#chat-text").send_keys("Look at")
    page.find("#chat-send").click()
    page.wait_until(
        "return document.querySelector('#chat-log .written') && "
        "!document.getElementById('chat-send').disabled", seconds=240,
    )  # fmt: skip
    assert page.script(TEXT, "chat-log").startswith("Look at")
    (tmp_path / "a.png").write_bytes(picture())
    page.find("#image-file").send_keys(str(tmp_path / "a.png"))
    page.wait_until("return !document.getElementById('image').hidden", seconds=240)
    assert page.script(TEXT, "caption") not in ("...",)
    page.find("#question").send_keys("what is it?")
    page.find("#ask-send").click()
    page.wait_until("return document.querySelector('#answers dd')", seconds=240)
    assert page.find("#answers dt").text == "what is it?"
    page.find("#act-start").click()
    page.wait_until(
        "return document.getElementById('figures').textContent.startsWith('over')", seconds=240
    )
    assert page.script("return document.getElementById('frame').naturalWidth") >= 200
    page.check()


def test_a_dropped_image_and_a_bad_one(page: Any) -> None:
    import base64

    page.script(DROP, base64.b64encode(picture()).decode(), "dropped.png")
    page.wait_until("return !document.getElementById('image').hidden", seconds=240)
    page.check()
    page.script(DROP, base64.b64encode(b"no picture").decode(), "bad.png")
    page.wait_until("return document.getElementById('image-error').textContent", seconds=240)
    assert "not one of the image formats" in page.script(TEXT, "image-error")
    assert page.script("return document.getElementById('image').hidden")
    assert page.foreign_requests() == []


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_fits_phones_and_desks(browser: Any, address: str, width: int, dark: bool) -> None:
    browser.open(address, width=width, dark=dark)
    browser.wait_until(READY, seconds=240)
    assert browser.overflow() == 0
    unnamed = browser.script(
        "return [...document.querySelectorAll('input, textarea, select, img')].filter("
        "e => !(e.labels && e.labels.length) && !e.alt).map(e => e.id)"
    )
    assert unnamed == []
    browser.check()


def test_an_episode_with_the_keyboard_alone(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find("body").send_keys(Keys.TAB)
    seen = []
    while page.script("return document.activeElement.id") != "act-start":
        seen.append(page.script("return document.activeElement.id"))
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        assert len(seen) < 10, seen
    assert seen == ["task", "episode"]
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.script(outline) == "solid"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    over = "return document.getElementById('figures').textContent.startsWith('over')"
    page.wait_until(over, seconds=240)
    page.check()


def test_an_error_goes_when_something_else_begins(page: Any) -> None:
    start = "document.getElementById('act-form').noValidate = true;"
    page.script(f"{start} document.getElementById('episode').value = -1")
    page.find("#act-start").click()
    page.wait_until("return document.getElementById('act-error').textContent", seconds=240)
    assert "expected 0.." in page.script(TEXT, "act-error")
    page.script("document.getElementById('episode').value = 0")
    page.find("#act-start").click()
    assert page.script(TEXT, "act-error") == ""
    over = "return document.getElementById('figures').textContent.startsWith('over')"
    page.wait_until(over, seconds=240)
    assert page.script("return !document.querySelector('section.busy')")


@pytest.mark.slow
def test_nobody_stumbles(audit: Any, address: str) -> None:
    audit(address, ready=READY)
