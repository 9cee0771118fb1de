"""The overview in a browser: counts, charts, halts, notices, and what cannot be read."""

import math
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from pulse.domain import Event
from tests.support.browser import Pages, require_chromium, screenshot, serious_findings
from tests.support.events import order_created, slices_released, slices_scheduled, stored
from tests.support.orders import order
from tests.support.processes import PulseProcess, pulse, until

HOSTILE = "stop <b>\u202etrading</b> \x85&amp;"


def events_of_50_minutes(now: datetime) -> list[tuple[datetime, Event]]:
    """Orders of the last 50 minutes, a varying number in each, all split and released in full."""
    events: list[tuple[datetime, Event]] = []
    for minute in range(50):
        start = now - timedelta(minutes=50 - minute, seconds=-now.second)
        for n in range(round(12 + 7 * math.sin(minute / 7) + minute * 7 % 5)):
            at = start + timedelta(seconds=n * 2)
            quantity = 200 + 17 * (minute + n)
            created = order_created(
                f"busy-{minute}-{n}",
                timestamp=at,
                window_starts_at=at,
                total_quantity=quantity,
                num_splits=2,
                duration_minutes=1,
            )
            scheduled = slices_scheduled(created)
            released = slices_released(created, scheduled, count=2)
            events.append((at, created))
            events.append((at + timedelta(seconds=1), scheduled))
            events.append((at + timedelta(seconds=61 + n % 7), released))
    return sorted(((at, event) for at, event in events if at < now), key=itemgetter(0))


@pytest.fixture(scope="module")
def busy_log(module_database_url: str) -> None:
    """A log with the orders of 50 minutes, which no process has projected yet."""
    with psycopg.connect(module_database_url) as superuser, superuser.cursor() as cursor:
        rows = [
            (
                record.originator_id,
                record.originator_version,
                record.topic,
                record.state,
                position,
                at,
            )
            for position, (at, event) in enumerate(events_of_50_minutes(datetime.now(UTC)), start=1)
            for record in stored([event])
        ]
        cursor.executemany(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
            " notification_id, recorded_at) VALUES (%s, %s, %s, %s, %s, %s)",
            rows,
        )
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('stored_events', 'notification_id'), %s)",
            (len(rows),),
        )


@pytest.fixture(scope="module")
def console(
    busy_log: None, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A Pulse process without service tokens that has projected those orders."""
    del busy_log
    require_chromium()
    with pulse(tmp_path_factory.mktemp("console"), database_url=module_database_url) as process:

        def is_projected() -> bool:
            orders = process.http.get("/internal/orders", params={"limit": 1}).json()["orders"]
            return bool(orders) and orders[0]["order_queue_status"] == "COMPLETED"

        until(is_projected, "the log is projected")
        yield process


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


def test_the_counts_change_while_orders_are_posted(console: PulseProcess, page: Page) -> None:
    page.goto("/console")
    before = count_of(page, "COMPLETED")
    position = page.locator("[data-live=position]").inner_text()
    page.evaluate("window.stays = true")
    place(console, order_unique_key=f"k-{uuid.uuid4()}")
    shown = page.locator('[data-status="COMPLETED"]')
    expect(shown).to_have_text(f"{before + 1:,}")
    expect(page.locator("[data-live=position]")).not_to_have_text(position)
    assert page.evaluate("window.stays"), "the page was not loaded again"


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


def test_the_overview_follows_the_theme_of_the_system(pages: Pages) -> None:
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
