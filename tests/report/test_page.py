"""The page in a real browser: headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_report import CAPTIONS, QUESTIONS, record_film

from db1.evaluation.results import read_results, write_results
from db1.report import write_report

SHOWN = """return [...document.querySelectorAll("#table-tasks tbody tr")]
    .filter(row => !row.hidden).map(row => row.cells[0].textContent)"""
COUNT = "return document.querySelector('[data-table=table-tasks] output').value"
NUM_TASKS, FIRST_ROWS = 870, 100


@pytest.fixture
def page(folder: Path) -> Path:
    record_film(folder, "toy/best")
    path = folder / "report.html"
    write_report(folder, path)
    return path


def test_sorting_with_the_keyboard_and_the_mouse(browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    assert browser.script(SHOWN) == ["other/none", "toy/best", "toy/half"]
    heads = {b.text: b for b in browser.find_all("#table-tasks thead button")}
    heads["score"].send_keys(Keys.ENTER)
    assert browser.script(SHOWN) == ["toy/best", "toy/half", "other/none"]
    heads["score"].click()
    assert browser.script(SHOWN) == ["other/none", "toy/half", "toy/best"]
    states = """return [...document.querySelectorAll("#table-tasks th[aria-sort]")]
        .map(head => [head.innerText.trim(), head.ariaSort])"""
    assert browser.script(states) == [["score", "ascending"]]
    heads["task"].send_keys(Keys.SPACE)
    assert browser.script(SHOWN) == ["other/none", "toy/best", "toy/half"]
    heads["success"].click()  # what has no value comes last, either way
    assert browser.script(SHOWN)[0] == "toy/half"
    heads["success"].click()
    assert browser.script(SHOWN)[0] == "toy/half"
    browser.check()


def test_search_and_filters(browser, page: Path) -> None:
    from selenium.webdriver.support.ui import Select

    browser.open(page)
    search = browser.find("[data-table=table-tasks] input[type=search]")
    search.send_keys("TOY al")
    assert browser.script(SHOWN) == ["toy/half"] and browser.script(COUNT) == "1 of 3"
    search.clear()
    Select(browser.find("[name=group]")).select_by_visible_text("other")
    assert browser.script(SHOWN) == ["other/none"]
    Select(browser.find("[name=group]")).select_by_visible_text("all")
    Select(browser.find("[name=level]")).select_by_visible_text("at least 50 %")
    assert browser.script(SHOWN) == ["toy/best", "toy/half"]
    browser.check()


def test_phone(browser, page: Path) -> None:
    """Nothing sticks out, rows are cards with named values, and sorting is there without heads."""
    from selenium.webdriver.support.ui import Select

    browser.open(page, width=375, height=800)
    assert browser.overflow() == 0
    wide = """return [...document.querySelectorAll("main *")].filter(e => e.offsetParent
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className || e.tagName)"""
    assert browser.script(wide) == []
    label = "return getComputedStyle(document.querySelector('td:not(.main)'), '::before').content"
    assert "attr" in browser.script(label) or "tasks" in browser.script(label)
    order = browser.find("[data-table=table-tasks] [name=order]")
    assert order.is_displayed()
    Select(order).select_by_visible_text("score")
    assert browser.script(SHOWN) == ["toy/best", "toy/half", "other/none"]
    browser.check()
    browser.open(page, width=320, height=600)
    assert browser.overflow() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(browser, page: Path, dark: bool) -> None:
    """Text stands out from what is behind it, 4.5 to 1 (WCAG 2, level AA)."""
    browser.open(page, dark=dark)
    paper = _rgb(browser.script("return getComputedStyle(document.body).backgroundColor"))
    assert (_luminance(paper) < 0.05) is dark
    browser.script("document.querySelectorAll('details').forEach(d => d.open = true)")
    pairs = browser.script("""
        const behind = e => {
          const c = getComputedStyle(e).backgroundColor;
          return c !== "rgba(0, 0, 0, 0)" || !e.parentElement ? c : behind(e.parentElement);
        };
        const texts = [...document.querySelectorAll("body *")].filter(e => e.offsetParent
          && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
        return texts.map(e => [e.tagName, getComputedStyle(e).color, behind(e)]);""")
    assert len(pairs) > 80
    for name, colour, background in pairs:
        levels = sorted((_luminance(_rgb(colour)), _luminance(_rgb(background))))
        assert (levels[1] + 0.05) / (levels[0] + 0.05) >= 4.5, (name, colour, background)
    browser.check()


def _show(browser, element) -> None:
    """Scrolls to an element."""
    browser.script("arguments[0].scrollIntoView({block: 'center'})", element)


@pytest.mark.slow
def test_nobody_stumbles(audit, write_evaluation: Callable[..., Path]) -> None:
    """The whole page with every kind of section, folded ones open."""
    folder, other = write_evaluation(), write_evaluation("other")
    record_film(folder, "toy/best")
    sections = {"captions": {"toy": CAPTIONS}, "questions": {"asked": QUESTIONS}}
    write_results(folder, read_results(folder) | sections)
    page = write_report(folder, folder / "report.html", others=[other]).with_name("report.html")
    opened = "document.querySelectorAll('details').forEach(d => { d.open = true })"
    audit(page, ready=f"{opened}; return true")


def test_everything_has_a_name(browser, page: Path) -> None:
    browser.open(page)
    for selector in ("button:not([hidden])", "input", "select", "[role=img]"):
        for element in browser.find_all(selector):
            if element.is_displayed():
                _show(browser, element)
                assert element.accessible_name.strip(), element.get_attribute("outerHTML")[:200]
    ids = browser.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    targets = browser.script("return [...document.querySelectorAll('a')].map(a => a.hash.slice(1))")
    assert set(targets) <= set(ids)
    levels = browser.script("return [...document.querySelectorAll('h1,h2,h3')].map(e => e.tagName)")
    assert levels[0] == "H1" and levels.count("H1") == 1


def test_films_play_when_asked(browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    films = browser.find_all(".film")
    assert [f.get_attribute("aria-pressed") for f in films] == ["false"] * 3
    _show(browser, films[0])
    assert "Play the best episode of toy/best: return 90" in films[0].accessible_name
    films[0].click()
    image = films[0].find_element("css selector", "img")
    assert image.get_attribute("src").startswith("blob:")
    browser.wait_until("return arguments[0].complete && arguments[0].naturalWidth === 32", image)
    assert films[0].get_attribute("aria-pressed") == "true"
    size = "return arguments[0].getBoundingClientRect().width"
    wide = browser.script(size, films[0])
    assert wide > 1.9 * browser.script(size, films[1])
    films[0].send_keys(Keys.SPACE)
    assert image.get_attribute("src").startswith("data:image/webp")
    assert browser.script(size, films[0]) < 0.6 * wide
    browser.find("[name=play]").click()
    browser.wait_until("return document.querySelectorAll('.film[aria-pressed=true]').length === 3")
    assert "differs" in browser.find(".films").text
    assert "2 of 3 returned exactly what was evaluated" in browser.find("#films").text
    browser.check()


def test_870_tasks(browser, write_evaluation: Callable[..., Path]) -> None:
    """A full evaluation: complete in the file, swift on the screen."""
    rng = np.random.default_rng(0)
    suites = [f"suite{i}" for i in range(12)]
    returns = {
        f"{suites[i % 12]}/task{i}": rng.normal(60, 30, 4).tolist() for i in range(NUM_TASKS)
    }
    folder = write_evaluation("many", returns)
    page = folder / "page.html"
    write_report(folder, page)
    assert page.stat().st_size < 2_500_000
    browser.open(page, width=375, height=800)
    assert browser.script(COUNT) == f"{NUM_TASKS} of {NUM_TASKS}"
    assert len(browser.script(SHOWN)) == FIRST_ROWS and browser.overflow() == 0
    for number in range(len(browser.find_all("#table-tasks thead button"))):
        browser.script(f"document.querySelectorAll('#table-tasks thead button')[{number}].click()")
        assert len(browser.script(SHOWN)) == FIRST_ROWS
    scores = """return [...document.querySelectorAll("#table-tasks tbody tr")]
        .map(row => Number(row.cells[1].dataset.key))"""
    browser.script("document.querySelectorAll('#table-tasks thead button')[1].click()")
    shown = browser.script(scores)
    assert len(shown) == NUM_TASKS and shown == sorted(shown, reverse=True)
    search = browser.find("[data-table=table-tasks] input[type=search]")
    search.send_keys("suite7/")
    assert browser.script(COUNT) == f"{len(range(7, NUM_TASKS, 12))} of {NUM_TASKS}"
    search.clear()
    browser.script("document.querySelector('.more').click()")
    assert len(browser.script(SHOWN)) == NUM_TASKS
    browser.check()


def test_paper_shows_all(browser, write_evaluation: Callable[..., Path]) -> None:
    import base64

    returns = {f"toy/task{i}": [float(i), i + 1.0] for i in range(130)}
    folder = write_evaluation("print", returns)
    write_report(folder, folder / "page.html")
    browser.open(folder / "page.html", dark=True)
    pdf = base64.b64decode(browser.command("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(browser.script(SHOWN)) == 130
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    browser.command("Emulation.setEmulatedMedia", {"media": "print"})  # heads on every page
    head = "return getComputedStyle(document.querySelector('thead button')).display"
    assert browser.script(head) == "contents"
    browser.check()


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(float(n) / 255 for n in re.findall(r"[\d.]+", colour)[:3])


def _luminance(rgb: tuple[float, ...]) -> float:
    """Relative luminance (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
