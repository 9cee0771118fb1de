"""Pages of the console in Debian's Chromium, by Playwright, and checks that hold for every page.

The headless shell is Chromium without windows: it uses a third of Chromium's CPU time.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    sync_playwright,
)

CHROMIUM: Final = (
    shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
)
NARROW: Final = ViewportSize(width=360, height=740)
PHONE: Final = {"width": 390, "height": 844}
WIDE: Final = {"width": 1280, "height": 900}
_TIMEOUT_MILLISECONDS: Final = 20_000
_ARGUMENTS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

_RULES_IN_THEMES: Final[dict[Literal["light", "dark"], dict[str, Any]]] = {
    "light": {},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}
_RUN_AXE: Final = """async options => {
    const more = [...document.querySelectorAll("tbody:nth-of-type(n+4), tbody tr:nth-child(n+9)")];
    const hidden = more.filter(element => !element.hidden);
    hidden.forEach(element => { element.hidden = true; });
    const found = await axe.run(document, {resultTypes: ["violations"], ...options});
    hidden.forEach(element => { element.hidden = false; });
    return found.violations;
}"""


def require_chromium() -> str:
    """The path of Chromium. Without one the test is skipped; in CI it fails."""
    if CHROMIUM is None:
        reason = "no chromium on this machine: install the package `chromium-headless-shell`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. Playwright's event loop stays in this thread: use it once per module."""
    path = require_chromium()
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Pages:
    """Opens pages of one Pulse, and collects problems that no page may have.

    These are errors in the browser's console, uncaught errors, and requests to other hosts.
    """

    def __init__(self, browser: Browser, base_url: str) -> None:
        self._browser = browser
        self._base_url = base_url
        self._contexts: list[BrowserContext] = []
        self._problems: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def new(self, **options: Any) -> Page:
        """A page in a context of its own; `options` are those of Playwright's `new_context`."""
        context = self._browser.new_context(
            **{"base_url": self._base_url, "viewport": WIDE, "locale": "en-GB", **options}
        )
        context.set_default_timeout(_TIMEOUT_MILLISECONDS)
        self._contexts.append(context)
        context.on("request", lambda request: self._check_host(request.url))
        context.on("console", self._check_console)
        context.on("weberror", lambda error: self._problems.append(f"uncaught: {error.error}"))
        return context.new_page()

    def expect_problem(self, pattern: str) -> None:
        """Accept problems that match, such as the browser's report of a 403 that a test causes."""
        self._expected.append(re.compile(pattern))

    def _check_host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(self._base_url).netloc:
            self._problems.append(f"request to another host: {url}")

    def _check_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._problems.append(f"{message.type}: {message.text}")

    @property
    def problems(self) -> list[str]:
        """The problems that no test expects."""
        return [p for p in self._problems if not any(e.search(p) for e in self._expected)]

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()


def follow(link: Locator) -> None:
    """Click a link or a button that opens a page, and wait until that page is loaded."""
    with link.page.expect_navigation():
        link.click()


def serious_findings(page: Page) -> list[str]:
    """What axe-core rates serious or critical on the page, in both themes.

    The themes differ only in colours, so in the dark one only the contrast is checked. Contrast is
    most of the work, and the rows of a table come from one template: rows after the eighth of a
    group, and groups after the third, are hidden meanwhile.
    """
    page.evaluate(AXE_SCRIPT)
    found = []
    for theme, options in _RULES_IN_THEMES.items():
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # no transition
        violations = page.evaluate(_RUN_AXE, options)
        found += [
            f"{theme}: {violation['id']} ({violation['impact']}): {violation['help']}: "
            f"{node['html'][:200]}"
            for violation in violations
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    return found


def overflow_pixels(page: Page) -> int:
    """How many pixels the page is wider than its window: 0 if nothing is cut off."""
    found: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return found


def screenshot_path(name: str) -> Path | None:
    """Where the screenshot of this name is written; None unless screenshots are asked for."""
    folder = os.environ.get("PULSE_SCREENSHOTS")
    return Path(folder, f"console-{name}.png") if folder else None


def screenshot(page: Page, name: str, *, full_page: bool = False) -> None:
    """Write a screenshot if PULSE_SCREENSHOTS names a folder (`make screenshots`)."""
    path = screenshot_path(name)
    if path is not None:
        page.screenshot(path=path, full_page=full_page, animations="disabled", caret="hide")
