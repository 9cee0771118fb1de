"""The overview in a browser: counts, charts, halts, notices, and what cannot be read."""

import re
import uuid
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import PHONE, Pages, screenshot, serious_findings
from tests.support.orders import order
from tests.support.processes import PulseProcess, until

ORDERS = 400
HOSTILE = "stop <b>\u202etrading</b> \x85&amp;"


@pytest.fixture(scope="module", autouse=True)
def busy_hour(console: PulseProcess, module_database_url: str) -> None:
    """Orders over the last 50 minutes: they are placed now, and their recorded times moved."""
    batch = [
        order(
            order_unique_key=f"busy-{n}",
            total_quantity=1000 + 7 * n,
            split_config={"num_splits": 2, "duration_minutes": 240, "randomize": True},
        )
        for n in range(ORDERS)
    ]
    console.http.post("/internal/orders/batch", json=batch).raise_for_status()

    def released() -> bool:
        queue = console.http.get("/internal/queue").json()
        shares: int = queue["quantities"]["released"]
        return queue["counts"]["COMPLETED"] == ORDERS and shares > 400 * ORDERS

    until(released, "all orders are split, and their first slices released")
    with psycopg.connect(module_database_url) as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute(
            "UPDATE stored_events SET recorded_at = now() - (50 * (1 - x) + 3 * sin(14 * x))"
            " * interval '1 minute'"
            " FROM (SELECT max(notification_id) AS last FROM stored_events) log,"
            " LATERAL (SELECT notification_id::float8 / last AS x) placed"
        )


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


def test_the_overview_in_both_themes(pages: Pages) -> None:
    for theme in ("light", "dark"):
        page = pages.new(color_scheme=theme)
        page.goto("/console")
        expect(page.locator('[data-status="COMPLETED"]')).to_be_visible()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"[0-9]+", background)[0])
        assert (red > 200) == (theme == "light"), background
        screenshot(page, f"overview-{theme}")
    page = pages.new(viewport=PHONE)
    page.goto("/console")
    screenshot(page, "overview-phone")


def test_a_stored_theme_overrides_the_systems(page: Page) -> None:
    page.goto("/console")
    page.evaluate("localStorage.setItem('pulse.theme', 'dark')")
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
