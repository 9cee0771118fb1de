"""The list of orders and the page of one order, in a browser."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from pulse.domain import Event, OrderCreated
from tests.support.browser import (
    NARROW,
    PHONE,
    Pages,
    follow,
    overflow_pixels,
    screenshot,
    serious_findings,
)
from tests.support.events import (
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    stored,
)
from tests.support.log import write
from tests.support.orders import order
from tests.support.processes import PulseProcess, until

LIST: Final = "/console/orders"
HOSTILE: Final = "<img src=x onerror=alert(1)>\u202e\u200b\"'&amp;{{7*7}}"
_LISTED: Final = (
    *(("NSE:TCS", "SELL"), ("BSE:500325", "BUY"), ("NSE:M&M", "BUY"), ("NSE:INFY", "SELL")),
    *(("NSE:TCS", "BUY"), ("NSE:HDFCBANK", "SELL"), ("NSE:ITC", "BUY"), ("BSE:532540", "SELL")),
)
STATES: Final = ("RELEASED", "RELEASED", "EXPIRED", "SCHEDULED", "SCHEDULED")

_EMPTY: Final = "order_unique_key=&key_scope=&placed_by=&trace_id=&created_from=&created_before="

Record = Callable[..., OrderCreated]


@pytest.fixture
def record(console: PulseProcess, module_database_url: str) -> Record:
    """Writes an order whose window is tomorrow, so that Pulse leaves it as it is.

    Each function gets the events so far and returns the next one.
    """

    def written(*following: Callable[..., Event], **changes: Any) -> OrderCreated:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        key = changes.pop("order_unique_key", str(uuid4()))
        created = order_created(key, window_starts_at=tomorrow, **changes)
        events: list[Event] = [created, slices_scheduled(created)]
        for one in following:
            events.append(one(*events))
        write(module_database_url, *stored(events))
        path = f"/internal/orders?order_unique_key={created.order_unique_key}"
        until(lambda: console.http.get(path).json()["orders"], "the order is listed")
        return created

    return written


def place(console: PulseProcess, *keys: str, **changes: Any) -> list[str]:
    """Place orders; returns their ids when they are listed."""
    bodies = [order(order_unique_key=key, **changes) for key in keys]
    name = uuid4().hex
    answer = console.http.post("/internal/orders/batch", json=bodies, headers={"X-Trace-Id": name})
    ids = [result["body"]["order_id"] for result in answer.json()["results"]]
    path = f"/internal/orders?trace_id={name}&limit=200"
    until(lambda: len(console.http.get(path).json()["orders"]) == len(keys), "they are listed")
    return ids


def keys_on(page: Page) -> list[str]:
    return page.locator("tbody .key").all_inner_texts()


def test_filters_are_in_the_url_and_can_be_removed(page: Page, console: PulseProcess) -> None:
    name = uuid4().hex[:8]
    place(console, f"{name}-tcs", instrument="NSE:TCS")
    place(console, f"{name}-mm", instrument="NSE:M&M")
    page.goto(LIST)

    page.get_by_label("Instrument").fill("NSE:M&M")
    follow(page.get_by_role("button", name="Filter"))

    assert page.url.endswith(f"{LIST}?order_queue_status=&instrument=NSE%3AM%26M&" + _EMPTY)
    assert f"{name}-mm" in keys_on(page)
    assert f"{name}-tcs" not in keys_on(page)
    expect(page.get_by_role("textbox", name="Instrument")).to_have_value("NSE:M&M")
    follow(page.get_by_role("link", name="Remove the filter Instrument"))
    assert page.url.endswith(LIST)
    assert {f"{name}-mm", f"{name}-tcs"} <= set(keys_on(page))


def test_a_link_of_a_row_filters_by_its_instrument(page: Page, console: PulseProcess) -> None:
    place(console, uuid4().hex, instrument="BSE:500325")
    page.goto(LIST)

    follow(page.locator("tbody").get_by_role("link", name="BSE:500325").first)

    assert page.url.endswith("?instrument=BSE%3A500325")
    assert set(page.locator("tbody td:nth-child(3)").all_inner_texts()) == {"BSE:500325"}


def test_120_orders_are_read_page_by_page_and_back(page: Page, console: PulseProcess) -> None:
    name = uuid4().hex[:8]
    keys = [f"{name}-{number:03}" for number in range(120)]
    place(console, *keys, instrument="NSE:WIPRO")
    page.goto(f"{LIST}?instrument=NSE:WIPRO")
    found = keys_on(page)

    for _ in range(2):
        follow(page.get_by_role("link", name="Older orders"))
        found += keys_on(page)

    assert found == keys[::-1]
    assert page.get_by_role("link", name="Older orders").count() == 0
    follow(page.get_by_role("link", name="Back to the newest"))
    assert keys_on(page) == keys[: 120 - 51 : -1]


def test_an_empty_result_names_the_filter_and_clears_it(page: Page, console: PulseProcess) -> None:
    place(console, uuid4().hex)
    page.goto(f"{LIST}?placed_by=unknown")
    expect(page.locator(".empty")).to_contain_text("No order matches placed by unknown.")

    follow(page.get_by_role("link", name="Clear the filters"))

    assert keys_on(page) != []


def test_a_fault_is_announced_at_its_field(page: Page, pages: Pages) -> None:
    pages.expect_problem("400")
    page.goto(LIST)
    page.get_by_label("Created from").fill("yesterday")
    page.get_by_label("Created from").press("Enter")

    field = page.get_by_label("Created from")
    expect(field).to_have_value("yesterday")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "created_from is not a valid time: expected an RFC 3339 time with its offset, such as "
        "2026-01-05T09:15:00+05:30"
    )
    assert serious_findings(page) == []


def test_the_search_box_opens_an_order(page: Page, console: PulseProcess) -> None:
    key = f"{uuid4()} with blanks"
    (order_id,) = place(console, key)
    page.goto(LIST)
    for sought in (key, order_id):
        page.get_by_role("searchbox").fill(sought)
        follow(page.get_by_role("button", name="Open"))
        assert page.url.endswith(f"{LIST}/{order_id}")
        page.goto(LIST)


def test_a_hostile_key_is_shown_and_not_run(page: Page, console: PulseProcess) -> None:
    key = f"{HOSTILE}{uuid4()}"
    (order_id,) = place(console, key)
    visible = key.replace("\u202e", r"\u202e").replace("\u200b", r"\u200b")

    page.goto(LIST)
    expect(page.get_by_role("link", name=visible)).to_be_visible()
    follow(page.get_by_role("link", name=visible))

    assert page.url.endswith(order_id)
    expect(page.locator("h1")).to_contain_text(visible)
    page.locator("#version-1 summary").click()
    expect(page.locator("#version-1 pre")).to_contain_text("onerror=alert(1)")
    assert page.locator("main img").count() == 0
    assert serious_findings(page) == []


def test_the_chart_and_the_table_show_the_same_slices(page: Page, record: Record) -> None:
    created = record(lambda *so_far: slices_released(*so_far, count=2), slices_expired)
    page.goto(f"{LIST}/{created.originator_id}")

    words = page.locator(".slice title").all_text_contents()
    rows = page.locator(".slices tbody tr").all()

    assert [word.rpartition(", ")[2].upper() for word in words] == [*STATES]
    assert [row.locator(".badge").inner_text() for row in rows] == [*STATES]
    for word, row in zip(words, rows, strict=True):
        assert f": {row.locator('td.num').first.inner_text()} shares at" in word
    chart = page.get_by_role("img", name="Slices of the order: shares over time")
    expect(chart).to_have_accessible_description(
        f"5 slices of {_sizes(words)} shares, from {_first(words)} to {_last(words)}: 2 scheduled, "
        "2 released, 1 expired. An even split has 20 shares in each of 5 slices."
    )


def _sizes(words: list[str]) -> str:
    sizes = [int(word.split()[2]) for word in words]
    return f"{min(sizes)} to {max(sizes)}"


def _first(words: list[str]) -> str:
    return words[0].partition(" at ")[2].partition(",")[0]


def _last(words: list[str]) -> str:
    return words[-1].partition(" at ")[2].partition(",")[0]


def test_versions_are_stepped_through(page: Page, record: Record) -> None:
    created = record(slices_released, slices_released)
    page.goto(f"{LIST}/{created.originator_id}")
    steps = page.locator(".step")
    expect(steps).to_have_count(4)

    follow(page.get_by_role("link", name="Previous version"))
    assert page.url.endswith("?version=3")
    expect(page.locator(".as-of")).to_contain_text("As of version 3 of 4")
    expect(steps).to_have_count(3)
    follow(page.get_by_role("link", name="Previous version"))
    follow(page.get_by_role("link", name="Previous version"))
    expect(page.locator("h1 .badge")).to_have_text("PENDING")
    assert page.locator(".slice").count() == 0
    assert page.get_by_role("link", name="Previous version").count() == 0
    follow(page.get_by_role("link", name="Next version"))
    expect(page.locator("h1 .badge")).to_have_text("COMPLETED")
    follow(page.get_by_role("link", name="Now", exact=True))
    assert page.url.endswith(str(created.originator_id))
    expect(steps).to_have_count(4)


def test_a_future_as_of_time_is_refused_with_a_message(
    page: Page, pages: Pages, record: Record
) -> None:
    pages.expect_problem("400")
    created = record(slices_released)
    page.goto(f"{LIST}/{created.originator_id}")
    page.get_by_label("As of").fill("2999-01-01T00:00:00Z")

    with page.expect_response(lambda answer: answer.status == 400):
        page.get_by_label("As of").press("Enter")

    expect(page.get_by_role("alert")).to_contain_text("at is in the future")


def test_an_order_is_cancelled_after_a_confirmation(page: Page, record: Record) -> None:
    created = record(lambda *so_far: slices_released(*so_far, count=2))
    page.goto(f"{LIST}/{created.originator_id}")
    follow(page.get_by_role("link", name="Cancel order"))
    expect(page.locator("form.card")).to_contain_text("3 slices, numbers 3 to 5")
    expect(page.locator("form.card")).to_contain_text("they stay released")
    assert serious_findings(page) == []

    page.get_by_label("Reason").fill("the fund is closed")
    follow(page.get_by_role("button", name="Cancel"))

    assert page.url.endswith(str(created.originator_id))
    expect(page.locator(".slice-cancelled.slice")).to_have_count(3)
    expect(page.locator(".step").last).to_contain_text("the fund is closed")
    assert page.get_by_role("link", name="Cancel order").count() == 0


def test_a_cancellation_that_comes_too_late_says_so(
    page: Page, pages: Pages, record: Record, module_database_url: str
) -> None:
    pages.expect_problem("409")
    created = record()
    page.goto(f"{LIST}/{created.originator_id}/cancel")
    released = slices_released(created, slices_scheduled(created), count=5)
    write(module_database_url, *stored([released]))

    follow(page.get_by_role("button", name="Cancel"))

    expect(page.get_by_role("alert")).to_contain_text("Nothing was cancelled: ")
    expect(page.get_by_role("alert")).to_contain_text("100 shares are released")
    follow(page.get_by_role("link", name="Show the order"))
    expect(page.locator(".slice-released.slice")).to_have_count(5)


def test_commands_are_copied_over_plain_http(pages: Pages, record: Record) -> None:
    created = record()
    page = pages.new(permissions=["clipboard-read"])
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(f"{LIST}/{created.originator_id}")
    for button in page.locator("[data-copy]").all():
        button.click()
        expect(button).to_contain_text("Copied")
        page.locator("#find, #at").first.fill("")
        page.keyboard.press("Control+V")
        expected = button.get_attribute("data-copy")
        assert page.locator("#find, #at").first.input_value() == expected


def test_an_order_can_be_read_and_cancelled_without_scripts(pages: Pages, record: Record) -> None:
    created = record()
    page = pages.new(java_script_enabled=False)
    page.goto(f"{LIST}/{created.originator_id}")
    expect(page.get_by_text(f"pulse replay {created.originator_id}")).to_be_visible()
    assert page.locator("button.copy:visible").count() == 0
    follow(page.get_by_role("link", name="Cancel order"))
    follow(page.get_by_role("button", name="Cancel"))
    expect(page.locator(".slice-cancelled.slice")).to_have_count(5)


def test_an_unknown_order_has_a_page_that_says_so(page: Page, pages: Pages) -> None:
    pages.expect_problem("404")
    page.goto(f"{LIST}/{uuid4()}")
    expect(page.locator("main")).to_contain_text("order has this id")


def test_one_order_is_accessible(page: Page, record: Record) -> None:
    created = record(lambda *so_far: slices_released(*so_far, count=2), slices_expired)
    for path in ("", "?version=1", "/events/3"):
        page.goto(f"{LIST}/{created.originator_id}{path}")
        assert serious_findings(page) == []
    page.goto(LIST)
    assert serious_findings(page) == []


def test_orders_fit_a_narrow_screen(pages: Pages, record: Record) -> None:
    created = record(slices_released)
    page = pages.new(viewport=NARROW)
    one = f"{LIST}/{created.originator_id}"
    for path in (one, f"{one}/cancel", f"{one}?version=2", f"{one}/events/2", LIST):
        page.goto(path)
        assert overflow_pixels(page) == 0, path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("phone", {"viewport": PHONE}),
    ],
)
def test_an_order_of_many_slices_is_drawn(
    pages: Pages, record: Record, name: str, options: dict[str, Any]
) -> None:
    of_desk: dict[str, Any] = {"placed_by": f"desk-{name}", "duration_minutes": 375}
    for number, (instrument, side) in enumerate(_LISTED, 2):
        shares, key = 12_345 * number, f"{name}/2026-03-02/{number:04}"
        names = {"order_unique_key": key, "instrument": instrument, "side": side}
        following = (order_cancelled,) if number % 3 == 0 else (slices_released,)
        record(*following, **of_desk, **names, total_quantity=shares, num_splits=number)
    created = record(
        lambda *so_far: slices_released(*so_far, count=14),
        lambda *so_far: slices_expired(*so_far, count=2),
        **of_desk,
        order_unique_key=f"{name}/2026-03-02/0001",
        total_quantity=1_250_000,
        num_splits=40,
    )
    page = pages.new(**options)
    page.goto(f"{LIST}/{created.originator_id}")
    assert page.locator(".slice").count() == 40
    screenshot(page, f"order-{name}")
    page.goto(f"{LIST}?placed_by=desk-{name}")
    assert page.locator("tbody tr").count() == len(_LISTED) + 1
    if name == "light":
        screenshot(page, "orders-light")
