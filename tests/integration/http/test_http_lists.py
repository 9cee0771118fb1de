"""The lists over HTTP: responses, and strict parameters."""

import base64
import json
from datetime import datetime
from itertools import product
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from pulse.domain import Event
from pulse.postgres import Database
from pulse.process.apps import api_app
from tests.support.api import api_settings, client_of, lifespan_of
from tests.support.database import as_superuser
from tests.support.events import (
    order_cancelled,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import write
from tests.support.orders import ORDERS, fault, order, placed
from tests.support.projection import projection_blocked
from tests.support.read_model import project
from tests.support.splitting import hold, present
from tests.support.waiting import until

SLICES = "/pulse/internal/slices"
EVENTS = "/pulse/internal/events"
STATUSES = ["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
LOG = str(UUID(int=1))
TYPES = ["OrderCreated", "SlicesScheduled", "SplittingFailed", "TimedOut"]


async def read(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    response = await client.get(f"{path}?{urlencode(parameters)}" if parameters else path)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert "x-trace-id" in response.headers
    return response.json()


async def read_log(client: httpx.AsyncClient, **parameters: Any) -> Any:
    """A page of the log without the log's identity."""
    page = await read(client, EVENTS, **parameters)
    UUID(page.pop("log_id"))
    return page


async def completed(client: httpx.AsyncClient, count: int, **changes: Any) -> list[str]:
    """That many orders, oldest first, each placed after the one before, listed as COMPLETED."""
    ids = [await placed(client, order(**changes)) for _ in range(count)]

    async def all_listed() -> bool:
        page = await read(client, ORDERS, order_queue_status="COMPLETED", limit=200)
        return set(ids) <= {listed["order_id"] for listed in page["orders"]}

    await until(all_listed, "the orders are listed as COMPLETED")
    return ids


def new_instrument() -> str:
    """One that no other test uses."""
    return f"NSE:M&{uuid4().hex[:12].upper()}"


async def test_without_orders_every_list_is_an_empty_last_page(api: httpx.AsyncClient) -> None:
    assert await read(api, ORDERS) == {"orders": [], "next_cursor": None, "as_of_position": 0}
    assert await read(api, SLICES) == {"slices": [], "next_cursor": None}
    assert await read_log(api) == {"events": [], "next_after": 0}


async def test_orders_are_listed_newest_first_as_each_is_answered_alone(
    api: httpx.AsyncClient,
) -> None:
    ids = await completed(api, 4)
    page = await read(api, ORDERS)
    assert list(page) == ["orders", "next_cursor", "as_of_position"]
    assert [listed["order_id"] for listed in page["orders"]] == ids[::-1]
    for listed in page["orders"]:
        alone = (await api.get(f"{ORDERS}/{listed['order_id']}")).json()
        assert listed == alone
        assert list(listed) == list(alone)
    assert page["next_cursor"] is None
    assert page["as_of_position"] == 8


async def test_orders_are_read_page_by_page(shared_api: httpx.AsyncClient) -> None:
    instrument = new_instrument()
    ids = await completed(shared_api, 5, instrument=instrument)
    filters = {"order_queue_status": "COMPLETED", "instrument": instrument}
    page = await read(shared_api, ORDERS, limit=2, **filters)
    pages = [page]
    while page["next_cursor"] is not None:
        cursor = page["next_cursor"]
        assert quote(cursor, safe="") == cursor
        page = await read(shared_api, ORDERS, limit=2, cursor=cursor, **filters)
        pages.append(page)
        assert len(pages) < 9, "the pages have no end"
    listed = [[o["order_id"] for o in page["orders"]] for page in pages]
    assert listed == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    again = await read(shared_api, ORDERS, cursor=pages[0]["next_cursor"], **filters)
    assert [o["order_id"] for o in again["orders"]] == [ids[2], ids[1], ids[0]]


async def test_an_order_that_is_not_projected_yet_is_beyond_as_of_position(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    first = await completed(api, 1)
    async with projection_blocked(conninfo):
        await placed(api)
        page = await read(api, ORDERS)
    assert [listed["order_id"] for listed in page["orders"]] == first
    assert page["as_of_position"] == 2


async def test_slices_are_listed_by_time_with_their_orders_facts(api: httpx.AsyncClient) -> None:
    instrument = new_instrument()
    await completed(api, 2)
    (order_id,) = await completed(api, 1, instrument=instrument, side="SELL")
    alone = (await api.get(f"{ORDERS}/{order_id}")).json()
    times = [s["scheduled_at"] for s in alone["slices"]]
    bounds = {"scheduled_from": times[1], "scheduled_before": times[4]}
    listed: list[dict[str, Any]] = []
    page = await read(api, SLICES, limit=1, **bounds)
    while True:
        listed += page["slices"]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
        assert quote(cursor, safe="") == cursor
        page = await read(api, SLICES, limit=1, cursor=cursor, **bounds)
    assert len(listed) > 3
    assert [s["scheduled_at"] for s in listed] == sorted(s["scheduled_at"] for s in listed)
    mine = [s for s in listed if s["order_id"] == order_id]
    assert mine == [
        {"order_id": order_id, "instrument": instrument, "side": "SELL", **s}
        for s in alone["slices"][1:4]
    ]
    assert list(mine[0]) == [
        "order_id",
        "instrument",
        "side",
        "sequence_number",
        "quantity",
        "scheduled_at",
        "state",
    ]


async def test_one_instant_in_any_notation_is_one_bound(api: httpx.AsyncClient) -> None:
    await completed(api, 1)
    first = (await read(api, SLICES, limit=2, scheduled_from="2026-01-05T03:45:00Z"))["next_cursor"]
    for written in (
        "2026-01-05T09:15:00+05:30",
        "2026-01-05T09:15:00%2B05:30",
        "2026-01-05T03:45:00.000000Z",
        "2026-01-05t03:45:00z",
        "2026-01-04T22:45:00-05:00",
        "2026-01-05T03:45:00.000000000Z",
        "2026-01-05T03:44:59.999999001Z",
    ):
        response = await api.get(f"{SLICES}?scheduled_from={written}&cursor={first}")
        assert response.status_code == 200, (written, response.text)
        assert len(response.json()["slices"]) == 3


async def test_bounds_finer_than_a_microsecond_are_compared_as_written(
    api: httpx.AsyncClient,
) -> None:
    (order_id,) = await completed(api, 1)
    slices = (await read(api, f"{ORDERS}/{order_id}"))["slices"]
    at = datetime.fromisoformat(slices[1]["scheduled_at"])
    exact = at.strftime("%Y-%m-%dT%H:%M:%S.%f")

    async def found(**bounds: str) -> list[int]:
        page = await read(api, SLICES, **bounds)
        return [s["sequence_number"] for s in page["slices"]]

    assert await found(scheduled_from=f"{exact}000Z", scheduled_before=f"{exact}001Z") == [2]
    assert await found(scheduled_from=f"{exact}001Z", scheduled_before=f"{exact}999Z") == []
    assert await found(scheduled_before=f"{exact}000000Z") == [1]
    assert await found(scheduled_before=f"{exact}000001Z") == [1, 2]


async def test_the_log_is_read_in_commit_order_with_the_events_of_each_history(
    api: httpx.AsyncClient,
) -> None:
    ids = await completed(api, 3)
    whole = await read(api, EVENTS)
    assert [event["position"] for event in whole["events"]] == [1, 2, 3, 4, 5, 6]
    assert whole["next_after"] == 6
    for order_id in ids:
        history = (await api.get(f"{ORDERS}/{order_id}/events")).json()["events"]
        assert [e for e in whole["events"] if e["order_id"] == order_id] == history
    page = await read_log(api, after=1, limit=2)
    assert page == {"events": whole["events"][1:3], "next_after": 3}
    for event_type in TYPES:
        page = await read(api, EVENTS, type=event_type)
        assert page["events"] == [e for e in whole["events"] if e["type"] == event_type]
        assert page["next_after"] == 6
    created = [e for e in whole["events"] if e["type"] == "OrderCreated"]
    page = await read_log(api, type="OrderCreated", limit=1)
    assert page == {"events": created[:1], "next_after": created[0]["position"]}
    assert await read_log(api, after=6) == {"events": [], "next_after": 6}
    assert await read_log(api, after=6, type="TimedOut") == {"events": [], "next_after": 6}


async def test_foreign_events_are_shown_as_they_are(api: httpx.AsyncClient, conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
            " VALUES (gen_random_uuid(), 1, 'elsewhere:Happened', '\\xff'),"
            "        (gen_random_uuid(), 1, 'elsewhere:Happened', '{\"a\": 1}')"
        )
    page = await read(api, EVENTS)
    shown = [(event["type"], event["data"]) for event in page["events"]]
    assert shown == [("elsewhere:Happened", {"state_hex": "ff"}), ("elsewhere:Happened", {"a": 1})]
    assert await read_log(api, type="OrderCreated") == {"events": [], "next_after": 2}


async def test_a_position_beyond_the_log_is_refused_with_its_end(api: httpx.AsyncClient) -> None:
    await completed(api, 3)
    beyond = ("7", str(2**63 - 1), str(2**63), "9" * 60)
    for after, more in product(beyond, ("", "&type=TimedOut")):
        response = await api.get(f"{EVENTS}?after={after}{more}")
        details = fault(response, 400, "POSITION_BEYOND_LOG")
        assert details["after"] == min(int(after), 2**63 - 1)
        assert details["end"] == 6
        assert (details["field"], details["expected"]) == ("after", "a position from 0 to 6")


WRONG_NUMBERS = ["", "0", "-1", "+1", "1.0", "1e2", "one", " 1", "1 ", "١", "0x1", "9" * 5000]
WRONG_TIMES = [
    "",
    "now",
    "2026-01-05",
    "2026-01-05T09:15:00",
    "2026-01-05T09:15Z",
    "2026-01-05 09:15:00Z",
    "2026-01-05T09:15:00.Z",
    "2026-01-05T09:15:00.123456789",
    "2026-01-05T09:15:00.1_0Z",
    "2026-01-05T09:15:00.123456789+05",
    "2026-01-05T09:15:60Z",
    "2026-01-05T24:00:00Z",
    "2026-02-30T09:15:00Z",
    "2026-01-05T09:15:00+25:00",
    "2026-01-05T09:15:00+0530",
    "2026-W02-1T09:15:00Z",
    "20260105T091500Z",
    "1767604500",
    "0001-01-01T00:00:00+05:30",
    "9999-12-31T23:59:59-05:30",
    "0000-01-01T00:00:00Z",
    "２０２６-01-05T09:15:00Z",
]
WRONG = [
    *((ORDERS, "limit", value) for value in [*WRONG_NUMBERS, "201"]),
    *((SLICES, "limit", value) for value in [*WRONG_NUMBERS, "1001"]),
    *((EVENTS, "limit", value) for value in [*WRONG_NUMBERS, "1001"]),
    *((EVENTS, "after", value) for value in WRONG_NUMBERS if value != "0"),
    *(
        (SLICES, name, value)
        for name in ("scheduled_from", "scheduled_before")
        for value in WRONG_TIMES
    ),
    *(
        (ORDERS, "order_queue_status", value)
        for value in ("", "DONE", "pending", "PENDING ", "None")
    ),
    *((EVENTS, "type", value) for value in ("", "Ordercreated", "elsewhere:Happened")),
    *((EVENTS, "type", value) for value in ("pulse.domain:OrderCreated", "DomainEvent")),
    *(
        (ORDERS, "instrument", value)
        for value in ("", "RELIANCE", "nse:reliance", "NSE:", "NSE:A\0")
    ),
    *((ORDERS, "instrument", value) for value in ("NYSE:A", "NSE:A%", "NSE:" + "A" * 47, "NSE:A ")),
    *(
        (path, "cursor", value)
        for path in (ORDERS, SLICES)
        for value in ("", "x", "null", "é", "=", "A")
    ),
]


@pytest.mark.parametrize(("path", "name", "value"), WRONG)
async def test_a_wrong_value_is_refused_by_name(
    shared_api: httpx.AsyncClient, path: str, name: str, value: str
) -> None:
    response = await shared_api.get(f"{path}?{urlencode({name: value}, quote_via=quote)}")
    details = fault(response, 400, "INVALID_REQUEST")
    assert details["field"] == name
    assert details["expected"]


@pytest.mark.parametrize("path", [ORDERS, SLICES, EVENTS])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=PENDING", "status"),
        ("limit=1&Limit=1", "Limit"),
        ("limit=1&limit=1", "limit"),
        ("limit=1&lim%69t=2", "limit"),
        ("limit", "limit"),
        ("limit=%ff", "limit"),
        ("%ff=1", "query"),
        ("=1", ""),
        ("a" * 500, "a" * 72),
        ("limit=1;limit=2", "limit"),
    ],
)
async def test_unknown_duplicate_and_undecodable_parameters_are_refused(
    shared_api: httpx.AsyncClient, path: str, query: str, field: str
) -> None:
    response = await shared_api.get(f"{path}?{query}")
    details = fault(response, 400, "INVALID_REQUEST")
    assert details["field"] == field
    assert details["expected"]


async def test_an_unescaped_ampersand_in_an_instrument_is_refused(
    shared_api: httpx.AsyncClient,
) -> None:
    response = await shared_api.get(f"{ORDERS}?instrument=NSE:M&M")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "M"
    assert (await shared_api.get(f"{ORDERS}?instrument=NSE:M%26M")).status_code == 200


@pytest.mark.parametrize("query", ["", "&", "limit=1&", "limit=001", "%6Cimit=1"])
async def test_unambiguous_parameters_are_accepted(
    shared_api: httpx.AsyncClient, query: str
) -> None:
    for path in (ORDERS, SLICES, EVENTS):
        assert (await shared_api.get(f"{path}?{query}")).status_code == 200


async def test_every_status_is_a_filter(database: Database, conninfo: str) -> None:
    """The API alone: workers would split the order that is PENDING."""
    created = orders_created(len(STATUSES))
    _, claimed, split, failed, cancelled = created
    outcomes: list[Event] = [
        slices_scheduled(split),
        splitting_failed(failed),
        order_cancelled(cancelled),
    ]
    write(conninfo, *stored([*created, *outcomes]))
    await project(database)
    await hold(database, [claimed], "worker-1")
    app = api_app(api_settings(conninfo))
    with present(conninfo, "worker-1"):
        async with lifespan_of(app), client_of(app) as api:
            for status, expected in zip(STATUSES, created, strict=True):
                page = await read(api, "/internal/orders", order_queue_status=status)
                (listed,) = page["orders"]
                assert listed["order_id"] == str(expected.originator_id)
                assert listed["order_queue_status"] == status


async def test_time_bounds_the_wrong_way_round_are_refused(shared_api: httpx.AsyncClient) -> None:
    early, late = "2026-01-05T09:15:00Z", "2026-01-05T09:15:00.000001Z"
    response = await shared_api.get(f"{SLICES}?scheduled_from={late}&scheduled_before={early}")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "scheduled_before"
    page = await read(shared_api, SLICES, scheduled_from=early, scheduled_before=early)
    assert page == {"slices": [], "next_cursor": None}


async def test_a_cursor_is_refused_with_other_filters_and_by_other_lists(
    api: httpx.AsyncClient,
) -> None:
    await completed(api, 3, instrument="NSE:A")
    of_orders = (await read(api, ORDERS, limit=1, instrument="NSE:A"))["next_cursor"]
    bound = "2026-01-05T09:15:00Z"
    of_slices = (await read(api, SLICES, limit=1, scheduled_from=bound))["next_cursor"]
    for path, cursor, right, wrong in [
        (
            ORDERS,
            of_orders,
            {"instrument": "NSE:A"},
            [
                {},
                {"instrument": "NSE:B"},
                {"instrument": "NSE:A", "order_queue_status": "COMPLETED"},
            ],
        ),
        (
            SLICES,
            of_slices,
            {"scheduled_from": bound},
            [
                {},
                {"scheduled_from": "2026-01-05T09:15:00.000001Z"},
                {"scheduled_before": bound},
                {"scheduled_from": bound, "scheduled_before": "2126-01-05T09:15:00Z"},
            ],
        ),
    ]:
        await read(api, path, cursor=cursor, **right)
        for filters in wrong:
            response = await api.get(f"{path}?{urlencode({**filters, 'cursor': cursor})}")
            details = fault(response, 400, "INVALID_REQUEST")
            assert details["field"] == "cursor"
    for path, foreign in [(ORDERS, of_slices), (SLICES, of_orders)]:
        response = await api.get(f"{path}?cursor={foreign}")
        assert fault(response, 400, "INVALID_REQUEST")["field"] == "cursor"


NO_FILTER = "0" * 32
"""In place of a digest of filters."""


async def test_a_cursor_from_before_the_log_was_restored_is_refused(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    await completed(api, 3)
    cursors = {path: (await read(api, path, limit=1))["next_cursor"] for path in (ORDERS, SLICES)}
    with psycopg.connect(as_superuser(conninfo)) as connection:
        connection.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    for path, cursor in cursors.items():
        response = await api.get(path, params={"cursor": cursor})
        assert response.status_code == 400
        assert response.json()["error"]["details"]["field"] == "cursor"
        assert "before the log was restored" in response.json()["error"]["message"]
        again = (await read(api, path, limit=1))["next_cursor"]
        assert (await api.get(path, params={"cursor": again})).status_code == 200


def encoded(*parts: Any) -> str:
    return (
        base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode())
        .rstrip(b"=")
        .decode()
    )


@pytest.mark.parametrize(
    ("path", "cursor"),
    [
        (ORDERS, encoded("orders", NO_FILTER, 0, LOG)),
        (ORDERS, encoded("orders", NO_FILTER, -1, LOG)),
        (ORDERS, encoded("orders", NO_FILTER, 2**63, LOG)),
        (ORDERS, encoded("orders", NO_FILTER, "5", LOG)),
        (ORDERS, encoded("orders", NO_FILTER, 5.0, LOG)),
        (ORDERS, encoded("orders", NO_FILTER)),
        (ORDERS, encoded("orders", None, None, 5)),
        (ORDERS, encoded("orders", NO_FILTER, 5, LOG)),
        (ORDERS, encoded("orders", NO_FILTER, 5, 6)),
        (ORDERS, encoded("orders", NO_FILTER, 5, LOG) + "="),
        (ORDERS, encoded("orders", NO_FILTER, 5, LOG) + "\n"),
        (ORDERS, encoded(*["[" * 5000])),
        (ORDERS, base64.urlsafe_b64encode(b"[" * 100_000).decode()[:20_000]),
        (SLICES, encoded("slices", None, None, "2026-01-05T09:15:00", 1, LOG)),
        (SLICES, encoded("slices", None, None, "2026-01-05T09:15:00Z", "1", LOG)),
        (SLICES, encoded("slices", None, None, "2026-01-05T09:15:00Z", 0, LOG)),
        (SLICES, encoded("slices", None, None, "2026-01-05T09:15:00Z", 2**63, LOG)),
        (SLICES, encoded("slices", None, None, "2026-01-05T09:15:00Z", str(uuid4()), 1, LOG)),
    ],
)
async def test_a_cursor_that_pulse_did_not_issue_is_refused(
    shared_api: httpx.AsyncClient, path: str, cursor: str
) -> None:
    response = await shared_api.get(f"{path}?cursor={quote(cursor)}")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "cursor"


async def test_lists_are_503_while_their_tables_are_missing(
    api: httpx.AsyncClient, conninfo: str
) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("ALTER TABLE scheduled_slices RENAME TO slices_away")
        connection.execute("ALTER TABLE order_queue RENAME TO queue_away")
    for path in (ORDERS, SLICES):
        fault(await api.get(path), 503, "UNAVAILABLE")
    with psycopg.connect(conninfo) as connection:
        connection.execute("ALTER TABLE slices_away RENAME TO scheduled_slices")
        connection.execute("ALTER TABLE queue_away RENAME TO order_queue")
    for path in (ORDERS, SLICES):
        assert (await api.get(path)).status_code == 200
