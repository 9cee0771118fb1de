"""The pages due, failed, log and halts, without a browser: paging, filters, forms and rights."""

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.in_process import InProcessOrders
from pulse.domain import HALTS_STREAM_ID
from pulse.process.apps import all_in_one_app
from pulse.projections import due_slices
from pulse.rights import ALL_RIGHTS, ServiceRights
from pulse.secret import Secret, ServiceToken
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.events import (
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.log import write
from tests.support.orders import order, placed
from tests.support.tokens import bearer
from tests.support.waiting import until

HOSTILE = "<script>alert(1)</script>\u202e\u200b"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;"


async def page_at(client: httpx.AsyncClient, path: str, **parameters: Any) -> str:
    answer = await client.get(f"/console/{path}", params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.text


def rows_of(page: str, region: str = "") -> list[str]:
    """The keys of the rows, of one live region or of all."""
    if region:
        page = page.split(f'data-live="{region}"', 1)[1].split("</section>", 1)[0]
    return re.findall(r'<tr data-row data-key="([^"]+)"', page)


def link_of(page: str, text: str) -> str | None:
    """The path of the link with this text."""
    found = re.search(rf'<a class="button" href="([^"]+)"[^>]*>{text}</a>', page)
    return html.unescape(found[1]).removeprefix("/console/") if found else None


async def submit(
    client: httpx.AsyncClient, path: str, *, form_at: str = "halts", **fields: str
) -> httpx.Response:
    """Submit a form of the page at `form_at` to a path, as a browser does."""
    page = await page_at(client, form_at)
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    return await client.post(f"/console/{path}", data={"csrf_token": token[1], **fields})


async def test_pages_of_slices_follow_each_other(api: httpx.AsyncClient) -> None:
    for _ in range(3):
        await placed(api, order(total_quantity=1_000, split_config=split(20, 30)))

    async def is_split() -> bool:
        return len(rows_of(await page_at(api, "due", limit=1_000), "slices")) == 57

    await until(is_split, "the orders are split")
    seen: list[str] = []
    path: str | None = "due?limit=25"
    for rows in (25, 25, 7):
        assert path is not None
        page = await page_at(api, path)
        assert len(rows_of(page, "slices")) == rows
        seen += rows_of(page, "slices")
        path = link_of(page, "Later slices")
    assert path is None
    assert len(set(seen)) == 57
    assert 'aria-label="57 slices to release' not in page  # orders without a release are not due


def split(slices: int, minutes: int) -> dict[str, Any]:
    return {"num_splits": slices, "duration_minutes": minutes, "randomize": False}


async def test_the_overview_has_the_shares_that_expired(
    conninfo: str, api: httpx.AsyncClient
) -> None:
    async def shown() -> str:
        page = await page_at(api, "")
        found = re.search(r"<dt>Shares expired in the last hour</dt><dd>(.*)</dd>", page)
        return re.sub(r"<[^>]+>", "", found[1]) if found else ""

    assert await shown() == "0"
    created = order_created()
    scheduled = slices_scheduled(created)
    expired = slices_expired(created, scheduled)
    write(conninfo, *stored([created, scheduled, expired]))

    async def is_shown() -> bool:
        return await shown() == f"{expired.quantity} (late and expired slices)"

    await until(is_shown, "the overview has the expired shares")


async def test_a_halted_slice_is_marked_with_the_reason(
    conninfo: str, api: httpx.AsyncClient
) -> None:
    created = order_created("halted", instrument="NSE:TCS")
    other = order_created("released", instrument="NSE:INFY")
    write(conninfo, *stored([created, slices_scheduled(created), other, slices_scheduled(other)]))
    await submit(
        api, "halts", scope="INSTRUMENT", instrument="NSE:TCS", reason=HOSTILE, confirmed="yes"
    )

    async def is_projected() -> bool:
        return len(rows_of(await page_at(api, "due"), "slices")) >= 6

    await until(is_projected, "the slices are projected")
    page = await page_at(api, "due")
    assert page.count('class="is-halted"') >= 2
    assert f"NSE:TCS: {SHOWN}" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "slices halted" in page


async def test_failed_orders_are_listed_by_reason_with_what_to_do(
    conninfo: str, api: httpx.AsyncClient
) -> None:
    late = order_created(HOSTILE, placed_by="<b>")
    stuck = order_created("stuck")
    write(
        conninfo,
        *stored([late, splitting_failed(late, "TOO_LATE"), stuck, timed_out(stuck)]),
    )

    async def is_projected() -> bool:
        return len(rows_of(await page_at(api, "failed"))) == 2

    await until(is_projected, "the failures are projected")
    page = await page_at(api, "failed")
    assert "No worker claimed it in time: check with <code>pulse status</code>" in page
    assert SHOWN in page
    assert "\\u202e" in page
    assert rows_of(await page_at(api, "failed", reason="TOO_LATE")) == [str(late.originator_id)]
    assert rows_of(await page_at(api, "failed", reason="TIMED_OUT")) == [str(stuck.originator_id)]
    empty = await page_at(api, "failed", reason=HOSTILE)
    assert f"No order has failed with the reason {SHOWN}" in empty
    assert rows_of(await page_at(api, "failed", before=1)) == []


async def test_a_parked_order_is_listed_with_the_command_that_retries_it(
    conninfo: str, api: httpx.AsyncClient
) -> None:
    created = order_created("parked")
    (first,) = stored([created])
    (second,) = stored([slices_scheduled(created)])
    write(conninfo, first, type(second)(second.originator_id, 2, second.topic, b'{"a": <b>'))

    async def is_parked() -> bool:
        return rows_of(await page_at(api, "failed"), "parked") != []

    await until(is_parked, "the order is parked")
    page = await page_at(api, "failed")
    assert f'data-copy="pulse projections retry {created.originator_id}"' in page
    assert 'href="/console/log?after=' in page
    assert "pulse projections retry --all" in page


async def test_the_log_is_read_in_both_directions(conninfo: str, api: httpx.AsyncClient) -> None:
    created = [order_created(f"key-{n}", release=False) for n in range(7)]
    write(conninfo, *stored([c for order in created for c in (order, splitting_failed(order))]))
    newest = await page_at(api, "log", limit=4)
    assert rows_of(newest) == ["event-14", "event-13", "event-12", "event-11"]
    path = link_of(newest, "Older events")
    seen = rows_of(newest)
    for _ in range(3):
        assert path is not None
        page = await page_at(api, path)
        seen += rows_of(page)
        path = link_of(page, "Older events")
    assert path is None
    assert seen == [f"event-{n}" for n in range(14, 0, -1)]
    path = link_of(page, "Newer events")
    assert path is not None
    assert "event-3" in rows_of(await page_at(api, path))
    from_start = await page_at(api, "log", after=0, limit=3)
    assert rows_of(from_start) == ["event-3", "event-2", "event-1"]
    assert link_of(from_start, "Older events") is None
    failed = await page_at(api, "log", type="SplittingFailed", limit=2)
    assert rows_of(failed) == ["event-14", "event-12"]
    path = link_of(failed, "Older events")
    assert path is not None
    assert rows_of(await page_at(api, path)) == ["event-10", "event-8"]
    end = await page_at(api, "log", after=14)
    assert (rows_of(end), link_of(end, "Newer events")) == ([], None)
    assert link_of(end, "Latest events") == "log"


async def test_empty_fields_of_a_filter_are_ignored(api: httpx.AsyncClient) -> None:
    assert "These are the latest events" in await page_at(api, "log?type=&after=")
    assert "No order has failed." in await page_at(api, "failed?reason=")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"log?after={10**15}", f"position {10**15} is beyond the log"),
        ("log?after=1&before=9", "before is given together with after"),
        ("log?after=-1", "after is not a whole number"),
        ("log?type=Nothing", "type"),
        ("log?limit=201", "limit"),
        ("due?cursor=x", "cursor is not a cursor of this list"),
        ("due?scheduled_from=today", "scheduled_from is not a valid time"),
        ("failed?before=0", "before"),
        ("halts?unknown=1", "unknown is unknown"),
    ],
)
async def test_a_wrong_parameter_is_an_error_page(
    shared_api: httpx.AsyncClient, path: str, message: str
) -> None:
    answer = await shared_api.get(f"/console/{path}")
    assert answer.status_code == 400
    assert message in html.unescape(answer.text)
    assert "What to do" in answer.text


async def test_a_halt_is_confirmed_set_and_lifted(api: httpx.AsyncClient) -> None:
    fields = {"scope": "CALLER", "placed_by": HOSTILE[:-2], "reason": "twice & <b>"}
    confirm = await submit(api, "halts", **fields)
    assert confirm.status_code == 200
    assert f"orders of {SHOWN}" in confirm.text
    assert "twice &amp; &lt;b&gt;" in confirm.text
    assert (await api.get("/pulse/internal/halts")).json() == {"halts": []}

    answer = await submit(api, "halts", **fields, confirmed="yes")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/halts")
    (halt,) = (await api.get("/pulse/internal/halts")).json()["halts"]
    assert (halt["placed_by"], halt["reason"]) == (fields["placed_by"], fields["reason"])
    assert rows_of(await page_at(api, "halts"), "in-force") == [halt["halt_id"]]
    again = await submit(api, "halts", **fields)
    assert "This halt is in force already" in again.text

    path = f"halts/{halt['halt_id']}/lift"
    assert "No slice is overdue because of this halt" in await page_at(api, path)
    answer = await submit(api, path, form_at=path, reason="right again")
    assert answer.status_code == 303
    page = await page_at(api, "halts")
    assert (rows_of(page, "in-force"), rows_of(page, "lifted")) == ([], [halt["halt_id"]])
    assert "right again" in page
    assert "This halt was lifted" in await page_at(api, path)


async def test_halts_that_cannot_be_read_are_a_fault_on_each_page(
    conninfo: str, api: httpx.AsyncClient
) -> None:
    newer = StoredEvent(HALTS_STREAM_ID, 1, "pulse.domain:ReleasesPaused", b"{}")
    write(conninfo, newer)
    for path in ("", "due", "halts"):
        page = await page_at(api, path)
        assert "The halts cannot be read, so no slice is released" in page, path
        assert "No halt is in force" not in page
        assert "None. Slices are released" not in page
    fields = {"scope": "ALL", "reason": "too risky"}
    lift = f"halts/{HALTS_STREAM_ID}/lift"
    answers = [
        await submit(api, "halts", **fields),
        await submit(api, "halts", **fields, confirmed="yes"),
        await submit(api, lift, reason="right again"),
        await api.get(f"/console/{lift}"),
    ]
    for answer in answers:
        assert answer.status_code == 503
        assert "no halt can be set or lifted" in answer.text
    assert 'value="too risky"' in answers[0].text  # the form is kept


async def test_the_halts_are_not_older_than_the_position_of_the_page(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A halt that is set while the page is read is shown if the position includes it."""
    entries_before = InProcessOrders.entries_before

    async def read_slowly(*arguments: Any) -> Any:
        body = {"scope": "ALL", "reason": "set meanwhile"}
        await api.post("/pulse/internal/halts", json=body)
        return await entries_before(*arguments)

    monkeypatch.setattr(InProcessOrders, "entries_before", read_slowly)
    page = await page_at(api, "halts")
    assert "As of position 1<" in page
    assert "set meanwhile" in page


def overdue(conninfo: str, count: int, instrument: str, minutes: int) -> None:
    """Orders of which one slice each has been due for `minutes`."""
    start = datetime.now(UTC) - timedelta(minutes=minutes)
    created = [
        order_created(
            instrument=instrument,
            num_splits=2,
            randomize=False,
            timestamp=start,
            window_starts_at=start,
        )
        for _ in range(count)
    ]
    write(conninfo, *stored([e for order in created for e in (order, slices_scheduled(order))]))


@pytest.mark.parametrize(
    ("others", "own", "text"),
    [
        (0, 1, "1</data> slice is overdue because of this halt."),
        (0, 201, 'At least <data class="num" value="200">200</data> slices are overdue'),
        (200, 1, "None of the slices examined is overdue because of this halt; others may be."),
    ],
    ids=["few", "many", "those of others"],
)
async def test_a_lift_says_how_many_slices_are_known_to_be_overdue(
    conninfo: str, api: httpx.AsyncClient, others: int, own: int, text: str
) -> None:
    halts = []
    for instrument in ("NSE:INFY", "NSE:TCS"):  # before the orders, or they would be released
        body = {"scope": "INSTRUMENT", "instrument": instrument, "reason": "r"}
        halts.append((await api.post("/pulse/internal/halts", json=body)).json()["halt_id"])
    overdue(conninfo, others, "NSE:INFY", 20)
    overdue(conninfo, own, "NSE:TCS", 10)
    halt = halts[1]

    async def is_said() -> bool:
        return text in await page_at(api, f"halts/{halt}/lift")

    await until(is_said, "the page has the number")
    page = await page_at(api, f"halts/{halt}/lift")
    assert ("Only the orders that have been due" in page) == (others + own > 200)


async def test_the_chart_of_another_period_says_what_it_counts(
    conninfo: str, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = order_created(num_splits=12, randomize=False, duration_minutes=180)
    split = slices_scheduled(created)
    released = slices_released(created, split, count=2)
    write(conninfo, *stored([created, split, released]))
    begin = created.window_starts_at - timedelta(minutes=1)
    period = {"scheduled_from": begin.isoformat()}
    until_end = period | {"scheduled_before": (begin + timedelta(hours=4)).isoformat()}

    async def is_projected() -> bool:
        return len(rows_of(await page_at(api, "due", **until_end), "slices")) == 12

    await until(is_projected, "the slices are projected")
    page = await page_at(api, "due", **until_end)
    assert re.search(r'aria-label="2 slices to release from [0-9: -]+ UTC to [0-9: -]+ UTC,', page)
    assert "Slices to release from <time" in page
    assert "The chart covers the first hour of the period, the list below all of it." in page
    hour = await page_at(api, "due", **period)
    assert "The chart covers" not in hour
    assert "were examined" not in hour
    monkeypatch.setattr(due_slices, "MAX_COUNTED", 2)
    page = await page_at(api, "due", **period)
    assert ">0</data> shares still to release." in page
    assert "slices of this time were examined; later ones are not counted." in page


async def test_without_overdue_slices_the_page_due_says_so(api: httpx.AsyncClient) -> None:
    assert "No slice is overdue now." in await page_at(api, "due")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scope": "ALL"}, "reason"),
        ({"scope": "ALL", "reason": "x" * 256}, "reason"),
        ({"scope": "INSTRUMENT", "reason": "r"}, "instrument"),
        ({"scope": "INSTRUMENT", "reason": "r", "instrument": "<TCS>"}, "instrument"),
        ({"scope": "CALLER", "reason": "r"}, "placed_by"),
        ({"scope": "CALLER", "reason": "r", "placed_by": "a\nb"}, "placed_by"),
        ({"scope": "ALL", "reason": "r", "instrument": "NSE:TCS"}, "instrument"),
        ({"scope": "SOME", "reason": "r"}, "scope"),
        ({"reason": "r"}, "scope"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
async def test_a_fault_is_shown_at_its_field(
    shared_api: httpx.AsyncClient, fields: dict[str, str], field: str
) -> None:
    answer = await submit(shared_api, "halts", **fields, confirmed="yes")
    assert answer.status_code == 400
    assert f'id="{field}-fault"' in answer.text
    assert f'aria-describedby="{field}-fault"' in answer.text
    assert answer.text.count('class="fault"') == 1
    if "reason" in fields:
        assert f'value="{fields["reason"]}"' in answer.text


async def test_a_reason_of_a_lift_that_is_too_long_is_shown_at_its_field(
    api: httpx.AsyncClient,
) -> None:
    body = {"scope": "INSTRUMENT", "instrument": "BSE:500325", "reason": "r"}
    halt = (await api.post("/pulse/internal/halts", json=body)).json()["halt_id"]
    path = f"halts/{halt}/lift"
    answer = await submit(api, path, form_at=path, reason="x" * 256)
    assert answer.status_code == 400
    assert 'id="reason-fault"' in answer.text


@pytest.mark.parametrize("halt_id", ["0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77", "nonsense"])
async def test_an_unknown_halt_is_not_found(shared_api: httpx.AsyncClient, halt_id: str) -> None:
    assert (await shared_api.get(f"/console/halts/{halt_id}/lift")).status_code == 404
    answer = await submit(shared_api, f"halts/{halt_id}/lift", reason="r")
    assert answer.status_code == 404


async def test_without_a_csrf_token_nothing_is_halted(shared_api: httpx.AsyncClient) -> None:
    await page_at(shared_api, "halts")
    fields = {"scope": "ALL", "reason": "forged", "confirmed": "yes"}
    for token in ({}, {"csrf_token": "wrong"}):
        answer = await shared_api.post("/console/halts", data={**fields, **token})
        assert answer.status_code == 403
    assert "forged" not in (await shared_api.get("/pulse/internal/halts")).text


TOKENS = {name: name.ljust(32, "-") for name in ("reader", "ops")}


@pytest.fixture(scope="module")
async def guarded(shared_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """A process with a token that may only read, and one that may do everything."""
    settings = api_settings(
        shared_conninfo,
        service_tokens=tuple(ServiceToken(n, Secret(t)) for n, t in TOKENS.items()),
        service_rights=(
            ServiceRights("reader", frozenset({"read"})),
            ServiceRights("ops", ALL_RIGHTS),
        ),
    )
    app = all_in_one_app(settings)
    async with lifespan_of(app), client_of(app) as client:
        yield client


@pytest.mark.parametrize("path", ["due", "failed", "log", "halts"])
async def test_a_request_of_the_script_without_a_session_is_401(
    guarded: httpx.AsyncClient, path: str
) -> None:
    fragment = {"X-Console-Fragment": "1"}
    answer = await guarded.get(f"/console/{path}", headers=fragment)
    assert answer.status_code == 401
    headers = {**fragment, **bearer(TOKENS["reader"])}
    assert (await guarded.get(f"/console/{path}", headers=headers)).status_code == 200


async def test_a_token_without_the_right_sees_no_form_and_halts_nothing(
    guarded: httpx.AsyncClient,
) -> None:
    reader, ops = bearer(TOKENS["reader"]), bearer(TOKENS["ops"])
    page = (await guarded.get("/console/halts", headers=reader)).text
    assert "has the right <code>halt</code>" in page
    assert 'action="/console/halts"' not in page
    assert 'action="/console/halts"' in (await guarded.get("/console/halts", headers=ops)).text
    fields = {"scope": "ALL", "reason": "not allowed", "confirmed": "yes"}
    answer = await guarded.post("/console/halts", data=fields, headers=reader)
    assert answer.status_code == 403
    halts = await guarded.get("/pulse/internal/halts", headers=ops)
    assert "not allowed" not in halts.text
