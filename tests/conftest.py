"""A real browser for tests of pages: headless Chromium, driven by selenium.

def test_page(browser, tmp_path):
    browser.open(tmp_path / "page.html", width=375, dark=True)
    assert browser.script("return document.title") == "..."
    browser.check()          # no console error, nothing fetched from elsewhere
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # for ports

if importlib.util.find_spec("triton") is not None:
    import triton  # noqa: F401  (crashes where it is loaded behind some of the importers' libraries)

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
ROOT = Path(__file__).parents[1]
_INNER_SCHEMES = ("data:", "blob:", "about:", "chrome:", "file:")


_AUDIT = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  found => done({faults: found.violations.flatMap(fault => fault.nodes.map(
    node => `${fault.id}: ${node.html.slice(0, 200)}: ${node.failureSummary}`))}),
  error => done({error: String(error)}));
"""
_AXE_PLACES = (ROOT / "build/axe", ROOT)


class Browser:
    """One tab of Chromium that remembers what it fetched and what its console said.

    Args:
        driver: The selenium driver.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.origin = ""

    def open(
        self, page: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Loads a file or an address at a window width in CSS pixels."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # forget what other pages did
        scheme = "dark" if dark else "light"
        self.command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", {"features": features})
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self.origin = "/".join(address.split("/")[:3])
        self.driver.get(address)

    def command(self, name: str, arguments: dict[str, Any]) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def script(self, code: str, *arguments: Any) -> Any:
        """Runs JavaScript; `return` gives its value."""
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[Any]:
        """All elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def wait_until(self, code: str, *arguments: Any, seconds: float = 60.0) -> Any:
        """Waits until JavaScript returns something true, and returns it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(
            lambda _: self.script(code, *arguments), message=code
        )

    def console(self) -> list[str]:
        """Warnings and errors of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def foreign_requests(self) -> list[str]:
        """Addresses that were asked for outside of the page's own origin, since the last call."""
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        asked = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        own = (*_INNER_SCHEMES, self.origin) if self.origin else _INNER_SCHEMES
        return [address for address in asked if not address.startswith(own)]

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        return self.script(
            "const r = document.documentElement; return r.scrollWidth - r.clientWidth"
        )

    def check(self) -> None:
        """Fails when the page complained in the console or fetched something from elsewhere."""
        assert self.console() == []
        assert self.foreign_requests() == []

    def faults_of_access(self) -> list[str]:
        """Faults that axe-core finds in the page as it is: rule, element, reason."""
        self.script(f"if (!window.axe) {{ {_axe()} }}")
        found = self.driver.execute_async_script(_AUDIT)
        assert "error" not in found, found
        return found["faults"]

    def screenshot(self, path: Path) -> None:
        """Writes a PNG of the window."""
        self.driver.save_screenshot(str(path))


@functools.cache
def _axe() -> str:
    """The source of axe-core, a checker of accessibility; the test skips itself without."""
    for place in _AXE_PLACES:
        file = place / "node_modules/axe-core/axe.min.js"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    pytest.skip("needs axe-core: npm install --no-save --prefix build/axe axe-core@4.14.1")


def _why_no_browser() -> str | None:
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"needs {program}: apt-get install -y chromium chromium-driver"
    return None


@pytest.fixture(scope="session")
def figures() -> Any:
    """The script that writes the figures of pages, as a module."""
    script = Path(__file__).parents[1] / "scripts" / "figures.py"
    spec = importlib.util.spec_from_file_location("figures", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fresh environments with db1 as a wheel of this checkout, by their extras."""
    from fresh_environment import Environments, distributions, extra_requirements

    try:
        distributions(extra_requirements(["all"]))
    except LookupError as missing:
        pytest.skip(str(missing))
    return Environments(tmp_path_factory.mktemp("environments"))


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install selenium")
    if reason := _why_no_browser():
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def browser(_chromium: Any) -> Browser:
    """Headless Chromium; the test skips itself where it is not installed."""
    return Browser(_chromium)


@pytest.fixture(params=[(1280, False), (1280, True), (400, False), (400, True)])
def audit(browser: Browser, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Opens a page and fails where people would stumble: `audit(page, ready="return ...")`.

    Checked with axe-core, at the width of a desk and of a phone, in light and in dark: contrast,
    names, keyboard access; that nothing sticks out of the window, and a silent console.
    """
    width, dark = request.param
    _axe()

    def check(page: Path | str, ready: str = "return true") -> None:
        browser.open(page, width=width, dark=dark)
        browser.wait_until(ready, seconds=240)
        assert browser.faults_of_access() == []
        assert browser.overflow() == 0
        browser.check()

    return check


@pytest.fixture(autouse=True)
def _threads_of_torch() -> Iterator[None]:
    """Ends a test's setting of torch's threads with it: sums depend on their number."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if before is not None:
        torch.set_num_threads(before)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One process runs all tests with a browser, so that it starts once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))
