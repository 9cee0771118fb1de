"""The pages of orders without a browser: status codes, escaping, forms and rights."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import HALTS_STREAM_ID, Event, OrderCreated, SlicesScheduled
from pulse.projections import lists
from pulse.rights import ServiceRights
from pulse.secret import Secret, ServiceToken
from tests.support.api import api_settings, serving
from tests.support.database import cloned_database
from tests.support.events import (
    foreign_event,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import write
from tests.support.orders import ORDERS, order, placed
from tests.support.tokens import bearer
from tests.support.waiting import until

LIST: Final = "/console/orders"
HOSTILE: Final = "</script><img src=x onerror=alert(1)>\u202e\u200b\"'&amp;"
UNKNOWN_ORDER_ID: Final = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
READER: Final = Secret("reader-token-of-32-characters-xyz")
WRITER: Final = Secret("writer-token-of-32-characters-xyz")


def order_of_tomorrow(**changes: Any) -> OrderCreated:
    """An order whose window has not begun, so that nothing of it is released meanwhile."""
    return order_created(window_starts_at=datetime.now(UTC) + timedelta(days=1), **changes)


def text_of(page: httpx.Response) -> str:
    """The text of a page, without tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def order_ids(page: httpx.Response) -> list[str]:
    return re.findall(r'data-key="([0-9a-f-]{36})"', page.text)


def csrf_token(page: httpx.Response) -> str:
    (token,) = set(re.findall(r'name="csrf_token" value="([^"]+)"', page.text))
    return str(token)


def link(page: httpx.Response, relation: str) -> str | None:
    found = re.search(rf'href="([^"]+)" rel="{relation}"', page.text)
    return None if found is None else unescape(found[1])


@pytest.fixture(scope="module")
def file_conninfo(postgres: str, template_database: str) -> Iterator[str]:
    """A database for this file, for tests that write events of an order of their own."""
    with cloned_database(postgres, template_database) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
async def file_api(file_conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = api_settings(file_conninfo, release_slices=False)
    async with serving(settings) as client:
        yield client


async def listed(api: httpx.AsyncClient, name: str, count: int) -> None:
    """Wait until the projection has this many orders of the trace."""

    async def complete() -> bool:
        page = await api.get(f"{LIST}?trace_id={name}&limit=200")
        return len(order_ids(page)) == count

    await until(complete, "the orders are listed")


async def in_trace(api: httpx.AsyncClient, name: str, count: int) -> list[str]:
    """Place orders in one trace; returns their ids, newest first."""
    headers = {"X-Trace-Id": name}
    ids = []
    for _ in range(count):
        answer = await api.post(ORDERS, json=order(), headers=headers)
        ids.append(answer.json()["order_id"])
    await listed(api, name, count)
    return ids[::-1]


async def test_the_list_is_read_page_by_page(shared_api: httpx.AsyncClient) -> None:
    name = uuid4().hex
    ids = await in_trace(shared_api, name, 5)

    page = await shared_api.get(f"{LIST}?trace_id={name}&limit=2&instrument=&order_unique_key=")
    found, pages = [], 0
    while True:
        found += order_ids(page)
        pages += 1
        following = link(page, "next")
        if following is None:
            break
        assert f"trace_id={name}" in following
        page = await shared_api.get(following)
        assert link(page, "first") == f"{LIST}?trace_id={name}&limit=2"

    assert (found, pages) == (ids, 3)


async def test_an_empty_result_names_its_filters(shared_api: httpx.AsyncClient) -> None:
    page = await shared_api.get(f"{LIST}?placed_by=unknown&order_queue_status=FAILED")

    assert page.status_code == 200
    assert "No order matches placed by unknown and status FAILED ." in text_of(page)
    assert f'href="{LIST}?order_queue_status=FAILED" aria-label="Remove the filter' in page.text
    assert f'<a class="button" href="{LIST}">Clear the filters</a>' in page.text


async def test_a_key_that_is_not_found_asks_for_its_scope(shared_api: httpx.AsyncClient) -> None:
    page = await shared_api.get(f"{LIST}?order_unique_key={uuid4()}")

    assert "A key belongs to a scope" in text_of(page)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("instrument=reliance", "instrument"),
        ("created_from=yesterday", "created_from"),
        ("key_scope=internal", "key_scope"),
        ("order_queue_status=DONE", "order_queue_status"),
    ],
)
async def test_a_fault_is_shown_at_its_field(
    shared_api: httpx.AsyncClient, query: str, field: str
) -> None:
    page = await shared_api.get(f"{LIST}?{query}&placed_by=oms")
    api = await shared_api.get(f"{ORDERS}?{query}&placed_by=oms")

    assert page.status_code == api.status_code == 400
    assert f'aria-describedby="{field}-fault"' in page.text
    assert api.json()["error"]["message"] in text_of(page)
    assert 'name="placed_by" type="text" value="oms"' in page.text
    assert query.partition("=")[2] in page.text


async def test_a_fault_of_no_field_is_shown_above_the_list(shared_api: httpx.AsyncClient) -> None:
    page = await shared_api.get(f"{LIST}?cursor=x&limit=1000000")

    assert page.status_code == 400
    assert "limit " in text_of(page)
    assert "aria-invalid" not in page.text


async def test_a_page_that_examined_enough_orders_offers_the_next_page(
    shared_api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = uuid4().hex
    ids = await in_trace(shared_api, name, 3)
    monkeypatch.setattr(lists, "MAX_EXAMINED", 2)

    page = await shared_api.get(f"{LIST}?trace_id={name}")

    assert order_ids(page) == ids[:2]
    assert "Older orders may match too" in text_of(page)
    following = re.search(r'href="([^"]+)">Continue with older orders', page.text)
    assert following is not None
    assert order_ids(await shared_api.get(unescape(following[1]))) == ids[2:]


async def test_the_search_box_opens_an_order_by_its_id_or_key(
    shared_api: httpx.AsyncClient,
) -> None:
    key = f"{uuid4()} a/b?c&d"
    order_id = await placed(shared_api, order(order_unique_key=key))
    for sought in (order_id, f"  {order_id.upper()} ", key):
        answer = await shared_api.get("/console/find", params={"q": sought})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{LIST}/{order_id}")

    answer = await shared_api.get("/console/find?q=abc==")  # a browser encodes it; others may not
    assert answer.headers["location"] == f"{LIST}?order_unique_key=abc%3D%3D"
    missing = await shared_api.get("/console/find", params={"q": "no/such key"})
    assert missing.headers["location"] == f"{LIST}?order_unique_key=no%2Fsuch%20key"
    unknown = str(uuid4())
    answer = await shared_api.get("/console/find", params={"q": unknown})
    assert answer.headers["location"] == f"{LIST}/{unknown}"
    assert (await shared_api.get("/console/find?q=")).headers["location"] == LIST


async def test_a_key_that_looks_like_an_id_is_found(shared_api: httpx.AsyncClient) -> None:
    key = str(uuid4())
    order_id = await placed(shared_api, order(order_unique_key=key))

    answer = await shared_api.get("/console/find", params={"q": key})

    assert answer.headers["location"] == f"{LIST}/{order_id}"


@pytest.mark.parametrize("order_id", [UNKNOWN_ORDER_ID, "x", "%3Cscript%3E", str(HALTS_STREAM_ID)])
@pytest.mark.parametrize("path", ["", "/cancel"])
async def test_an_unknown_order_is_a_page_that_says_so(
    shared_api: httpx.AsyncClient, order_id: str, path: str
) -> None:
    page = await shared_api.get(f"{LIST}/{order_id}{path}")

    assert page.status_code == 404
    assert "order has this id" in text_of(page)
    assert "<script>" not in page.text


async def test_an_order_is_shown_with_its_history(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow()
    split = slices_scheduled(created)
    released = slices_released(created, split, count=2)
    expired = slices_expired(created, split, released)
    write(file_conninfo, *stored([created, split, released, expired]))

    page = await file_api.get(f"{LIST}/{created.originator_id}")

    text = text_of(page)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r'id="version-(\d)"', page.text) == ["1", "2", "3", "4"]
    assert page.text.count('class="slice slice-released"') == 2
    assert page.text.count('class="slice slice-expired"') == 1
    assert "Slices 1 to 2, " in text
    assert f"pulse replay {created.originator_id}" in text
    assert f"curl -s http://localhost/pulse/internal/orders/{created.originator_id}" in text
    assert "?trace_id=t1" in page.text
    assert "Version 4 of 4" in text
    assert "style=" not in page.text


async def test_a_long_history_has_each_event_on_a_page(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow(num_splits=40)
    events: list[Event] = [created, slices_scheduled(created)]
    for _ in range(30):
        events.append(slices_released(*events))
    write(file_conninfo, *stored(events))
    path = f"{LIST}/{created.originator_id}"

    page = await file_api.get(path)
    event = await file_api.get(f"{path}/events/32")

    assert page.text.count(f'href="{path}/events/') == 32
    assert "<pre tabindex" in event.text
    assert '"sequence_number": 30' in unescape(event.text)
    for version in ("33", "0", "x"):
        assert (await file_api.get(f"{path}/events/{version}")).status_code == 404


async def test_an_order_of_100_slices_and_a_list_are_small(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow(num_splits=100, total_quantity=1_000_000)
    split = slices_scheduled(created)
    others = [order_of_tomorrow() for _ in range(60)]
    events: list[Event] = [created, split, slices_released(created, split, count=60), *others]
    write(file_conninfo, *stored(events))  # at once: each write blocks the event loop

    page = await file_api.get(f"{LIST}/{created.originator_id}")

    assert len(page.content) < 100_000
    assert f'href="{LIST}/{created.originator_id}/events/2">Event as JSON' in page.text
    assert '"type": "OrderCreated"' in page.text
    event = await file_api.get(f"{LIST}/{created.originator_id}/events/2")
    assert '"sequence_number": 100' in event.text

    async def is_full() -> bool:
        return len(order_ids(await file_api.get(LIST))) == 50

    await until(is_full, "the list has a whole page")
    assert len((await file_api.get(LIST)).content) < 60_000


async def test_each_version_is_shown_as_it_was(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow()
    split = slices_scheduled(created)
    write(file_conninfo, *stored([created, split, slices_released(created, split)]))
    path = f"{LIST}/{created.originator_id}"

    first, second = [await file_api.get(f"{path}?version={n}&position=&at=") for n in (1, 2)]

    assert "As of version 1 of 3" in text_of(first)
    assert "PENDING" in text_of(first)
    assert re.findall(r'id="version-(\d)"', first.text) == ["1"]
    assert 'class="slice ' not in first.text
    assert f'rel="next" href="{path}?version=2"' in first.text
    assert "2 later events not shown" in text_of(first)
    assert f'rel="prev" href="{path}?version=1"' in second.text
    assert "slice-released" not in re.findall(r'class="slice (\S+)"', second.text)
    assert f"pulse replay {created.originator_id} --version 2" in text_of(second)
    assert "Cancel order" not in second.text


async def test_an_order_is_shown_as_of_a_position_and_of_a_time(
    file_api: httpx.AsyncClient,
) -> None:
    order_id = await placed(file_api)

    async def split() -> bool:
        answer = (await file_api.get(f"{ORDERS}/{order_id}")).json()
        return bool(answer["order_queue_status"] == "COMPLETED")

    await until(split, "the order is split")
    events = (await file_api.get(f"{ORDERS}/{order_id}/events")).json()["events"]

    for point in (f"position={events[0]['position']}", f"at={events[0]['recorded_at']}"):
        page = await file_api.get(f"{LIST}/{order_id}?{point}")
        assert "As of version 1 of 2" in text_of(page), point


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("version=99", 400, "expected a version from 1 to 2"),
        ("version=0", 400, "version "),
        ("version=1&position=1", 400, "is given together with"),
        ("position=999999999", 400, "is beyond the log's end"),
        ("at=2999-01-01T00:00:00Z", 400, "at is in the future"),
        ("at=1999-01-01T00:00:00Z", 404, "This order did not exist then"),
        ("colour=red", 400, "colour is unknown"),
    ],
)
async def test_an_invalid_point_in_the_past_is_explained_on_the_page_of_the_order(
    shared_api: httpx.AsyncClient, shared_conninfo: str, query: str, status: int, message: str
) -> None:
    created = order_created()
    write(shared_conninfo, *stored([created, splitting_failed(created)]))

    page = await shared_api.get(f"{LIST}/{created.originator_id}?{query}")

    assert page.status_code == status
    text = text_of(page)
    assert message in text
    assert created.order_unique_key in text
    assert "As of version" not in text
    assert (
        "data-live" not in page.text.partition("</main>")[0]
    )  # so the script does not repeat the request


async def test_hostile_text_is_shown_and_not_run(shared_api: httpx.AsyncClient) -> None:
    key = f"{HOSTILE}{uuid4()}"
    order_id = await placed(shared_api, order(order_unique_key=key))
    await listed_key(shared_api, key)

    for path in (f"{LIST}/{order_id}", f"{LIST}?limit=200", f"{LIST}/{order_id}/cancel"):
        page = await shared_api.get(path)
        assert page.status_code == 200
        assert "<img" not in page.text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
        assert "\u202e" not in page.text
        assert "\u200b" not in page.text
        assert r"\u202e" in page.text
    page = await shared_api.get(LIST, params={"order_unique_key": HOSTILE, "trace_id": "<b>"})
    assert "<img" not in page.text
    assert "<b>" not in page.text


async def listed_key(api: httpx.AsyncClient, key: str) -> None:
    async def found() -> bool:
        return bool(order_ids(await api.get(LIST, params={"order_unique_key": key})))

    await until(found, "the order is listed")


async def test_a_failed_order_says_why_and_what_to_do(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_created()
    write(file_conninfo, *stored([created, splitting_failed(created, "TOO_LATE")]))

    text = text_of(await file_api.get(f"{LIST}/{created.originator_id}"))

    assert "TOO_LATE: a rule is broken." in text
    assert "FAILED is final" in text
    assert "check with pulse status that workers run" in text
    assert "Cancel order" not in text


@pytest.mark.parametrize(
    ("topic", "state", "message"),
    [
        (SlicesScheduled.TOPIC, b"broken", "This order cannot be read"),
        ("pulse.domain:OrderAmended", b"{}", "written by newer code"),
        ("elsewhere:Thing", b"{}", "Another program wrote to the stream"),
    ],
)
async def test_an_order_that_pulse_does_not_process_says_so(
    file_api: httpx.AsyncClient, file_conninfo: str, topic: str, state: bytes, message: str
) -> None:
    created = order_created()
    broken = StoredEvent(created.originator_id, 2, topic, state)
    write(file_conninfo, *stored([created]), broken)
    path = f"{LIST}/{created.originator_id}"

    page = await file_api.get(path)

    assert page.status_code == 200
    assert message in text_of(page)
    assert re.findall(r'id="version-(\d)"', page.text) == ["1", "2"]
    assert "Cancel order…" not in page.text
    cancelling = await file_api.get(f"{path}/cancel")
    token = csrf_token(cancelling) if "csrf_token" in cancelling.text else None
    if token is not None:
        answer = await file_api.post(f"{path}/cancel", data={"csrf_token": token})
        assert answer.status_code in {409, 503}


async def test_a_stream_without_an_order_is_shown_as_stored(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    stream = uuid4()
    write(file_conninfo, foreign_event(stream))

    page = await file_api.get(f"{LIST}/{stream}")

    assert page.status_code == 200
    assert "its stream has no event of Pulse" in text_of(page)


async def test_a_parked_order_says_so(api: httpx.AsyncClient, conninfo: str) -> None:
    created = order_created()
    broken = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, b"broken")
    write(conninfo, *stored([created]), broken)

    async def parked() -> bool:
        page = await api.get(f"{LIST}/{created.originator_id}")
        return "This order is parked: its event at position" in text_of(page)

    await until(parked, "the page says that the order is parked")


async def test_a_cancellation_says_what_it_does_and_does_it(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow()
    split = slices_scheduled(created)
    released = slices_released(created, split, count=2)
    write(file_conninfo, *stored([created, split, released]))
    path = f"{LIST}/{created.originator_id}"
    shares = sum(s.quantity for s in released.slices)

    page = await file_api.get(f"{path}/cancel")

    text = text_of(page)
    assert f"This cancels {100 - shares} shares" in text
    assert "3 slices, numbers 3 to 5" in text
    assert f"{shares} shares were already released" in text
    token = csrf_token(page)
    form = {"csrf_token": token, "reason": "the fund is <b>closed</b>"}
    answer = await file_api.post(f"{path}/cancel", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    shown = await file_api.get(path)
    assert "Its remaining shares were cancelled" in text_of(shown)
    assert "the fund is &lt;b&gt;closed&lt;/b&gt;" in shown.text
    again = await file_api.post(f"{path}/cancel", data={"csrf_token": token})
    assert again.status_code == 303  # a cancelled order is unchanged
    assert (
        len((await file_api.get(f"{ORDERS}/{created.originator_id}/events")).json()["events"]) == 4
    )


async def test_a_cancellation_that_comes_too_late_is_explained(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow()
    split = slices_scheduled(created)
    write(file_conninfo, *stored([created, split]))
    path = f"{LIST}/{created.originator_id}/cancel"
    token = csrf_token(await file_api.get(path))
    write(file_conninfo, *stored([slices_released(created, split, count=5)]))

    page = await file_api.post(path, data={"csrf_token": token})

    assert page.status_code == 409
    assert "Nothing was cancelled: " in text_of(page)
    assert "all of its slices are settled" in text_of(page)
    assert "100 shares are released, 0 cancelled, 0 expired." in text_of(page)
    assert "<form class=" not in page.text


@pytest.mark.parametrize("form", [{}, {"csrf_token": "x"}, {"reason": "r"}])
async def test_a_cancellation_needs_the_token_of_its_form(
    shared_api: httpx.AsyncClient, form: dict[str, str]
) -> None:
    order_id = await placed(shared_api)

    page = await shared_api.post(f"{LIST}/{order_id}/cancel", data=form or {"csrf_token": ""})

    assert page.status_code == 403
    assert (await shared_api.get(f"{ORDERS}/{order_id}")).json()["quantities"]["cancelled"] == 0


async def test_another_reason_for_a_cancelled_order_is_not_recorded(
    shared_api: httpx.AsyncClient,
) -> None:
    order_id = await placed(shared_api)
    path = f"{LIST}/{order_id}/cancel"
    token = csrf_token(await shared_api.get(path))
    form = {"csrf_token": token, "reason": "the first"}
    assert (await shared_api.post(path, data=form)).status_code == 303
    assert (await shared_api.post(path, data=form)).status_code == 303  # sent twice

    page = await shared_api.post(path, data=form | {"reason": "the second"})

    assert page.status_code == 409
    assert "this order was already cancelled by" in text_of(page)
    assert "the new reason was not recorded" in text_of(page)
    assert "The order was cancelled with the reason: the first" in text_of(page)


async def test_an_order_whose_releases_are_halted_says_so(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    created = order_of_tomorrow(instrument="NSE:TCS")
    write(conninfo, *stored([created, slices_scheduled(created)]))
    body = {"scope": "INSTRUMENT", "instrument": "NSE:TCS", "reason": "wrong <price>"}
    await api.post("/pulse/internal/halts", json=body)
    path = f"{LIST}/{created.originator_id}"

    now, then = await api.get(path), await api.get(f"{path}?version=2")

    assert "Releases of NSE:TCS are halted by" in text_of(now)
    assert "wrong &lt;price&gt;" in now.text
    assert "is the next to be released" not in now.text
    assert "are halted by" not in then.text


async def test_a_reason_that_is_too_long_is_shown_at_its_field(
    shared_api: httpx.AsyncClient,
) -> None:
    order_id = await placed(shared_api)
    path = f"{LIST}/{order_id}/cancel"
    token = csrf_token(await shared_api.get(path))

    page = await shared_api.post(path, data={"csrf_token": token, "reason": "x" * 256})

    assert page.status_code == 400
    assert 'aria-describedby="reason-fault"' in page.text
    assert f'value="{"x" * 256}"' in page.text
    assert "a string of at most 255 characters" in text_of(page)
    assert csrf_token(page)


@pytest.fixture
async def with_tokens(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    """An API with a service that may only read, and one that may write."""
    settings = api_settings(
        conninfo,
        release_slices=False,
        service_tokens=(ServiceToken("reader", READER), ServiceToken("writer", WRITER)),
        service_rights=(ServiceRights("reader", frozenset({"read"})),),
    )
    async with serving(settings) as client:
        yield client


async def test_without_the_right_to_write_nothing_offers_a_cancellation(
    with_tokens: httpx.AsyncClient,
) -> None:
    reader, writer = bearer(READER.reveal()), bearer(WRITER.reveal())
    answer = await with_tokens.post(ORDERS, json=order(), headers=writer)
    path = f"{LIST}/{UUID(answer.json()['order_id'])}"

    assert "Cancel order…" in (await with_tokens.get(path, headers=writer)).text
    assert "Cancel order…" not in (await with_tokens.get(path, headers=reader)).text
    for method in ("GET", "POST"):
        refused = await with_tokens.request(method, f"{path}/cancel", headers=reader)
        assert refused.status_code == 403, method
    unsigned = await with_tokens.get(path)
    assert unsigned.status_code in {303, 401}


async def test_each_page_has_another_csrf_token_and_all_are_accepted(
    file_api: httpx.AsyncClient, file_conninfo: str
) -> None:
    created = order_of_tomorrow()
    write(file_conninfo, *stored([created, slices_scheduled(created)]))
    path = f"{LIST}/{created.originator_id}/cancel"
    tokens = [csrf_token(await file_api.get(path)) for _ in range(3)]
    assert len(set(tokens)) == 3
    refused = [f"{tokens[0][:-1]}~", tokens[0][16:] + tokens[0][:16], tokens[0][16:], ""]
    for token in refused:
        assert (await file_api.post(path, data={"csrf_token": token})).status_code == 403
    for token in tokens:
        assert (await file_api.post(path, data={"csrf_token": token})).status_code == 303


async def test_pages_of_many_rows_are_compressed(api: httpx.AsyncClient, conninfo: str) -> None:
    created = [order_of_tomorrow() for _ in range(50)]
    write(conninfo, *stored(created))
    await listed(api, created[0].trace.trace_id, 50)
    plain = await api.get(f"{LIST}?limit=200", headers={"accept-encoding": "identity"})
    packed = await api.get(f"{LIST}?limit=200", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"].lower() == "accept-encoding"
    assert order_ids(packed) == order_ids(plain)
    assert 5 * int(packed.headers["content-length"]) < int(plain.headers["content-length"])
