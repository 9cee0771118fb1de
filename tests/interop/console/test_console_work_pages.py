"""Due, failed, log and halts in a browser, with orders, failures and hostile text."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Page, expect

from pulse.domain import Event
from pulse.evidence.key_file import create_key_file
from pulse.evidence.note import SigningKey
from tests.support.browser import (
    NARROW,
    Pages,
    follow,
    overflow_pixels,
    require_chromium,
    screenshot,
    serious_findings,
)
from tests.support.events import (
    order_created,
    slices_expired,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import write
from tests.support.orders import order
from tests.support.processes import PulseProcess, pulse, until

PATHS = ["/console/due", "/console/failed", "/console/log", "/console/halts"]
IN_DOCUMENTS = ["/console/due", "/console/log"]
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x85 & </td>"
SHOWN = "<img src=x onerror=alert(1)>\\u202e\\x85 & </td>"


@pytest.fixture(scope="module")
def console(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A Pulse process that seals the log."""
    require_chromium()
    home = tmp_path_factory.mktemp("console")
    create_key_file(home / "seal.key", SigningKey("pulse.example/log", bytes(range(32))))
    with pulse(
        home,
        database_url=module_database_url,
        seal_key=home / "seal.key",
        anchor_file=home / "anchors.txt",
    ) as process:
        yield process


@pytest.fixture(scope="module", autouse=True)
def _orders_in_every_state(console: PulseProcess, module_database_url: str) -> None:
    """Failed, parked and expired orders, orders with slices in the next hour, and a lifted halt."""
    now = datetime.now(UTC)
    failed = [order_created(f"desk-{n}", instrument="NSE:TCS") for n in range(4)]
    hostile = order_created(HOSTILE, placed_by=HOSTILE)
    late = order_created("late", timestamp=now - timedelta(minutes=20), total_quantity=1_000_000)
    scheduled = slices_scheduled(late)
    expired = slices_expired(late, scheduled, at=now - timedelta(minutes=15))
    outcomes: list[Event] = [
        *(splitting_failed(created, "TOO_LATE") for created in failed[:3]),
        timed_out(failed[3]),
        splitting_failed(hostile),
    ]
    write(module_database_url, *stored([*failed, hostile, *outcomes, late, scheduled, expired]))
    parked = order_created("parked")
    (first,) = stored([parked])
    (second,) = stored([slices_scheduled(parked)])
    broken = type(second)(second.originator_id, 2, second.topic, b'{"broken": <b>')
    write(module_database_url, first, broken)
    for n, instrument in enumerate(("NSE:RELIANCE", "NSE:INFY", "BSE:500325") * 4):
        body = order(
            instrument=instrument, total_quantity=500 + 731 * n, side=["BUY", "SELL"][n % 2]
        )
        assert console.post(body).status_code == 201
    body = {"scope": "INSTRUMENT", "instrument": "NSE:WIPRO", "reason": HOSTILE}
    halt = console.http.post("/internal/halts", json=body).json()["halt_id"]
    console.http.delete(f"/internal/halts/{halt}", params={"reason": "checked"})

    def is_projected() -> bool:
        page = httpx.get(f"http://127.0.0.1:{console.port}/console/failed", trust_env=False).text
        return page.count("data-row") >= 6

    until(is_projected, "the orders are projected")


@pytest.mark.parametrize("path", PATHS)
def test_a_page_with_rows_is_small_and_accessible_and_shows_hostile_text_as_text(
    page: Page, path: str
) -> None:
    sizes: dict[str, int] = {}
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    page.goto(path)
    page.wait_for_load_state("networkidle")
    assert sum(sizes.values()) < 100 * 1024, sizes
    assert page.locator("tr[data-row]").count() > 0
    assert page.locator("main img").count() == 0
    if path != "/console/due":
        assert SHOWN in page.locator("main").inner_text().replace("\n", "")
    assert serious_findings(page) == []
    if path in IN_DOCUMENTS:
        screenshot(page, f"{path.rpartition('/')[2]}-light")
    page.set_viewport_size(NARROW)
    assert overflow_pixels(page) == 0


def test_due_shows_the_next_hour_and_what_expired(page: Page) -> None:
    page.goto("/console/due")
    chart = page.get_by_role("img")
    expect(chart).to_have_attribute("aria-label", re.compile(r"^\d+ slices to release in the next"))
    assert page.locator("svg.chart-due rect.due").count() > 5
    late = page.locator("[data-live=late]")
    expired = late.locator("tbody tr").filter(has_text="EXPIRED")
    expect(expired.last).to_contain_text(re.compile(r"1[5-9] min"))
    expect(page.locator("[data-live=slices] tbody tr.group").first).to_contain_text("slice")
    follow(page.get_by_role("link", name="Later slices"))
    expect(page.locator("h2#next-title")).to_contain_text("From")
    assert "cursor=" in page.url
    follow(page.get_by_role("link", name="Next hour from now"))
    expect(page.locator("h2#next-title")).to_have_text("Next")


def test_failed_says_why_and_what_to_do_and_filters_by_reason(page: Page) -> None:
    page.goto("/console/failed")
    expect(page.locator("[data-live=parked]")).to_contain_text("pulse projections retry --all")
    expect(page.locator("[data-live=parked] tbody tr")).to_have_count(1)
    expect(page.locator("dl.remedies > div")).to_have_count(3)
    page.get_by_label("Reason").select_option("TOO_LATE")
    follow(page.get_by_role("button", name="Show"))
    expect(page.locator("[data-live=failed] tbody tr")).to_have_count(3)
    assert page.url.endswith("/console/failed?reason=TOO_LATE")
    expect(page.locator("dl.remedies")).to_contain_text("No worker claimed it in time")
    follow(page.get_by_role("link", name="Newest of all reasons"))
    expect(page.locator("[data-live=failed] tbody tr")).to_have_count(5)
    follow(page.locator("[data-live=parked] td.num a"))
    expect(page.locator("details[open] pre")).to_contain_text('"state_hex"')


def test_the_log_page_says_whether_the_log_is_sealed_and_filters_events(
    console: PulseProcess, page: Page
) -> None:
    page.goto("/console/log")
    verdict = page.locator(".verdict")
    expect(verdict).to_have_text("Sealed, and the signature is valid for the key of this process.")
    expect(page.locator("[data-live=seal]")).to_contain_text("pulse.example/log+")
    page.get_by_text("Check it yourself").click()
    expect(page.get_by_text("compares every event in the log")).to_be_visible()
    page.get_by_label("Type").select_option("OrderCreated")
    follow(page.get_by_role("button", name="Show"))
    assert "type=OrderCreated" in page.url
    types = page.locator("tr[data-row] td:nth-child(3)").all_inner_texts()
    assert set(types) == {"OrderCreated"}
    page.get_by_label("After position").fill("0")
    follow(page.get_by_role("button", name="Show"))
    positions = [int(t) for t in page.locator("tr[data-row] td:first-child").all_inner_texts()]
    assert positions == sorted(positions, reverse=True)
    assert positions[-1] == 1
    event = page.locator("tr[data-row]").last.locator("details")
    event.locator("summary").click()
    expect(event.locator("pre")).to_contain_text('"position": 1,')
    assert console.http.get("/internal/events").json()["events"][0]["position"] == 1


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_halt_is_set_and_lifted(console: PulseProcess, pages: Pages, *, scripts: bool) -> None:
    page = pages.new(java_script_enabled=scripts)
    page.goto("/console/halts")
    page.locator("#scope").select_option("INSTRUMENT")
    page.get_by_label("Instrument").fill("NSE:RELIANCE")
    page.get_by_label("Reason").fill(HOSTILE)
    follow(page.get_by_role("button", name="Halt…"))
    expect(page.locator("h1")).to_have_text("Halt NSE:RELIANCE?")
    expect(page.locator("main")).to_contain_text(
        re.compile(r"It stops \d+ slices? of the next hour")
    )
    assert console.http.get("/internal/halts").json() == {"halts": []}
    assert serious_findings(page) == [] if scripts else True
    follow(page.get_by_role("button", name="Halt NSE:RELIANCE"))
    expect(page.locator("[data-live=in-force] tbody tr")).to_have_count(1)
    expect(page.locator("[data-live=in-force]")).to_contain_text(SHOWN)
    page.goto("/console/due")
    assert page.locator("tr.is-halted").count() > 0
    expect(page.locator("tr.is-halted").first).to_contain_text(f"NSE:RELIANCE: {SHOWN}")
    assert page.locator("svg.chart-due rect.halted").count() > 0
    page.goto("/console/halts")
    follow(page.get_by_role("link", name="Lift…"))
    expect(page.locator("h1")).to_have_text("Lift the halt of NSE:RELIANCE?")
    expect(page.locator("main")).to_contain_text("Later slices are released at their times")
    assert serious_findings(page) == [] if scripts else True
    page.get_by_label("Reason").fill("checked")
    follow(page.get_by_role("button", name="Lift the halt"))
    expect(page.locator("[data-live=in-force]")).to_contain_text("No halt is in force")
    expect(page.locator("[data-live=lifted] tbody tr").first).to_contain_text("checked")
    assert console.http.get("/internal/halts").json() == {"halts": []}


def test_a_wrong_halt_is_explained_at_its_field(pages: Pages, page: Page) -> None:
    pages.expect_problem("400")
    page.goto("/console/halts")
    page.get_by_label("Instrument").fill("TCS")
    page.get_by_label("Reason").fill("typo")
    follow(page.get_by_role("button", name="Halt…"))
    field = page.get_by_label("Instrument")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(field).to_have_value("TCS")
    expect(page.locator("#instrument-fault")).to_contain_text("instrument")
    assert serious_findings(page) == []


def test_halts_of_others_appear_while_a_reason_is_typed(console: PulseProcess, page: Page) -> None:
    page.clock.install()
    page.goto("/console/halts")
    page.get_by_label("Reason").fill("half a sentence")
    body = {"scope": "CALLER", "placed_by": "algo", "reason": "twice"}
    halt = console.http.post("/internal/halts", json=body).json()["halt_id"]
    page.clock.run_for(2_100)
    expect(page.locator("[data-live=in-force]")).to_contain_text("orders of algo")
    expect(page.get_by_label("Reason")).to_have_value("half a sentence")
    expect(page.get_by_label("Reason")).to_be_focused()
    console.http.delete(f"/internal/halts/{halt}")
    page.clock.run_for(2_100)
    expect(page.locator("[data-live=in-force]")).to_contain_text("No halt is in force")
