"""What holds for each page of the console: it is served whole, safe and small, and accessible."""

import httpx
import pytest
from playwright.sync_api import Page

from tests.support.browser import NARROW, Pages, overflow_pixels, serious_findings
from tests.support.processes import PulseProcess

PATHS = [
    "/console",
    "/console/orders",
    "/console/due",
    "/console/failed",
    "/console/log",
    "/console/halts",
]
MAX_BYTES = 100 * 1024


def base_of(console: PulseProcess) -> str:
    return f"http://127.0.0.1:{console.port}"


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_small_and_accessible_and_fits_a_narrow_screen(page: Page, path: str) -> None:
    sizes: dict[str, int] = {}
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert len(sizes) >= 3
    assert sum(sizes.values()) < MAX_BYTES, sizes
    assert serious_findings(page) == []
    page.set_viewport_size(NARROW)
    assert overflow_pixels(page) == 0


def test_each_page_can_be_read_without_scripts(pages: Pages) -> None:
    page = pages.new(java_script_enabled=False)
    for path in PATHS:
        page.goto(path)
        assert page.locator("main h1").is_visible(), path
        assert not page.locator("[data-controls]").is_visible(), path


def test_in_one_process_a_browser_is_redirected_to_the_console(page: Page) -> None:
    page.goto("/")
    assert page.url.endswith("/console")
    assert page.title() == "Overview · Pulse"


def test_programs_get_404_at_the_root(console: PulseProcess) -> None:
    for headers in ({}, {"accept": "*/*"}, {"accept": "application/json"}):
        answer = httpx.get(base_of(console), headers=headers, trust_env=False)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "NOT_FOUND"


def test_an_unknown_page_says_what_to_do(pages: Pages, page: Page) -> None:
    pages.expect_problem("404")
    answer = page.goto("/console/nothing")
    assert answer is not None
    assert answer.status == 404
    assert page.locator("h1").inner_text() == "Not found"
    assert "What to do" in page.locator("main").inner_text()
    assert serious_findings(page) == []
