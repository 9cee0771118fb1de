"""The overview in a browser: counts, charts, halts, notices, and what cannot be read."""

import re
import uuid
from typing import Any

from playwright.sync_api import Page, expect

from tests.support.browser import Pages, screenshot, serious_findings
from tests.support.orders import order
from tests.support.processes import PulseProcess

HOSTILE = "stop <b>\u202etrading</b> \x85&amp;"


def count_of(page: Page, status: str) -> int:
    return int(page.locator(f'[data-status="{status}"] data').get_attribute("value") or "")


def place(console: PulseProcess, **changes: Any) -> str:
    answer = console.post(order(**changes))
    assert answer.status_code == 201, answer.text
    order_id: str = answer.json()["order_id"]
    return order_id


def test_the_overview_counts_orders_and_draws_the_last_hour(
    console: PulseProcess, page: Page
) -> None:
    page.goto("/console")
    before = count_of(page, "COMPLETED")
    for _ in range(3):
        console.until_completed(place(console, order_unique_key=f"k-{uuid.uuid4()}"))
    page.reload()
    assert count_of(page, "COMPLETED") == before + 3
    assert count_of(page, "PENDING") == 0
    position = page.locator("[data-live=position]").inner_text()
    assert re.fullmatch(r"As of position [1-9][0-9,]*", position)
    charts = page.get_by_role("img")
    expect(charts).to_have_count(3)
    expect(charts.nth(0)).to_have_attribute(
        "aria-label", re.compile(f"Accepted a minute: {before + 3} orders in the last hour")
    )
    assert page.locator("svg.chart rect.accepted").count() >= 1
    assert page.locator("svg.chart rect.split").count() >= 1
    page.get_by_text("The last hour as a table").click()
    accepted = page.locator("details table tbody tr td:nth-of-type(1)").all_inner_texts()
    assert sum(int(text.replace(",", "")) for text in accepted) == before + 3
    assert serious_findings(page) == []


def test_a_halt_is_shown_with_its_reason_which_is_text_not_markup(
    console: PulseProcess, page: Page
) -> None:
    body = {"scope": "INSTRUMENT", "instrument": "NSE:TCS", "reason": HOSTILE}
    halted = console.http.post("/internal/halts", json=body)
    assert halted.status_code == 201, halted.text
    try:
        page.goto("/console")
        shown = page.locator("[data-live=state]").inner_text()
        assert "NSE:TCS" in shown
        assert r"stop <b>\u202etrading</b> \x85&amp;" in shown
        assert page.locator("[data-live=state] b").count() == 0
        assert "releases_halted" in page.locator("[data-live=notices]").inner_text()
        assert serious_findings(page) == []
    finally:
        console.http.delete(f"/internal/halts/{halted.json()['halt_id']}")


def test_the_overview_in_both_themes(console: PulseProcess, pages: Pages) -> None:
    for n in range(40):
        place(console, order_unique_key=f"shown-{n}", total_quantity=1000 + 37 * n)
    for theme in ("light", "dark"):
        page = pages.new(color_scheme=theme)
        page.goto("/console")
        expect(page.locator('[data-status="COMPLETED"]')).to_be_visible()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"[0-9]+", background)[0])
        assert (red > 200) == (theme == "light"), background
        screenshot(page, f"overview-{theme}")


def test_a_stored_theme_overrides_the_systems(page: Page) -> None:
    page.goto("/console")
    page.evaluate("localStorage.setItem('pulse.theme', 'dark')")
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
