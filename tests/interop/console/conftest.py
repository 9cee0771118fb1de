"""What the browser tests of the console share: one Pulse and one Chromium a module."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.browser import Pages, chromium, require_chromium
from tests.support.processes import PulseProcess, pulse


@pytest.fixture(scope="module")
def console(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A Pulse process without service tokens."""
    require_chromium()
    home = tmp_path_factory.mktemp("console")
    with pulse(home, database_url=module_database_url) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def pages(browser: Browser, console: PulseProcess) -> Iterator[Pages]:
    """Opens pages with options; on exit checks that none had a problem (see `Pages`)."""
    opened = Pages(browser, f"http://127.0.0.1:{console.port}")
    yield opened
    opened.close()
    assert opened.problems == []


@pytest.fixture
def page(pages: Pages) -> Page:
    """A page of a desktop browser; `page.goto("/console")` opens the overview."""
    return pages.new()
