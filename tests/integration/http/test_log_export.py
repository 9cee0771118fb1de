"""The log as NDJSON and CSV over HTTP: forms, filters, limits, and readers that stop."""

import asyncio
import csv
import gzip
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.event_feed import FeedLimits
from pulse.application.log_formats import EVENT_COLUMNS, SLICE_COLUMNS
from pulse.domain import Event
from pulse.http.negotiation import accepts_gzip, preferred_type
from pulse.postgres import Database
from tests.support.database import as_runtime, cloned_database
from tests.support.event_streams import stream_of, streaming
from tests.support.events import (
    foreign_event,
    foreign_events,
    order_cancelled,
    order_created,
    orders_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    stored,
)
from tests.support.log import fetch, fetch_as_superuser, running_appender
from tests.support.orders import fault
from tests.support.waiting import until

EVENTS = "/internal/events"
NDJSON = {"Accept": "application/x-ndjson"}
CSV = {"Accept": "text/csv"}
OFFERED = ["application/json", "application/x-ndjson", "text/csv"]


async def append(database: Database, events: Sequence[StoredEvent]) -> None:
    async with running_appender(database) as appender:
        await appender.append(events)


def lived() -> list[Event]:
    """An order of which a slice was released, one expired, and the rest was cancelled."""
    history: list[Event] = [order_created()]
    history.append(slices_scheduled(history[0]))  # type: ignore[arg-type]
    history.append(slices_released(*history))
    history.append(slices_expired(*history))
    history.append(order_cancelled(*history, reason="=1+1"))
    return history


async def lines(client: httpx.AsyncClient, **query: Any) -> list[Any]:
    response = await client.get(EVENTS, params=query, headers=NDJSON)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    text = response.content.decode()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


async def rows(client: httpx.AsyncClient, **query: Any) -> list[dict[str, str]]:
    response = await client.get(EVENTS, params=query, headers=CSV)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    text = io.StringIO(response.content.decode(), newline="")
    return list(csv.DictReader(text, strict=True))


@pytest.fixture(scope="module")
async def empty_log(postgres: str, template_database: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over an empty log, to which nothing is added."""
    with cloned_database(postgres, template_database) as conninfo:
        database = Database(as_runtime(conninfo), pool_size=2)
        await database.open()
        async with streaming(database) as (_, client):
            yield client
        await database.close()


async def test_ndjson_has_the_objects_of_pages(database: Database) -> None:
    await append(database, [*stored(lived()), *foreign_events(3), *stored(lived())])
    async with streaming(database) as (_, client):
        page = (await client.get(EVENTS, params={"limit": 1000})).json()
        response = await client.get(EVENTS, headers=NDJSON)
        assert await lines(client) == page["events"]
        assert await lines(client, after=4, limit=3) == page["events"][4:7]
        assert response.headers["x-pulse-log-id"] == page["log_id"]
        assert response.headers["x-pulse-end-position"] == "13"
        assert response.headers["vary"] == "accept, accept-encoding"
        head = await client.head(EVENTS, headers=NDJSON)
        assert (head.status_code, head.content) == (200, b"")


async def test_an_empty_log_has_no_lines_and_a_header(database: Database) -> None:
    async with streaming(database) as (_, client):
        assert await lines(client) == []
        assert await rows(client) == []
        response = await client.get(EVENTS, headers=CSV)
        assert response.text == ",".join(EVENT_COLUMNS) + "\r\n"


async def test_an_export_of_more_events_than_a_window_is_complete(database: Database) -> None:
    await append(database, [*stored(orders_created(1200)), *foreign_events(300)])
    async with streaming(database) as (_, client):
        positions = [event["position"] for event in await lines(client)]
        assert positions == list(range(1, 1501))
        found = await lines(client, after=700, limit=650)
        assert [event["position"] for event in found] == list(range(701, 1351))


async def test_filters_are_those_of_pages(database: Database) -> None:
    first, second = lived(), lived()
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    await append(database, [*stored(mixed), foreign_event(first[0].originator_id, 6)])
    times = [
        row[0].isoformat()
        for row in await fetch(database, "SELECT recorded_at FROM stored_events ORDER BY 1")
    ]
    async with streaming(database) as (_, client):
        for query, expected in (
            ({"type": "SlicesReleased"}, [5, 6]),
            ({"order_id": str(first[0].originator_id)}, [1, 3, 5, 7, 9, 11]),
            ({"order_id": str(first[0].originator_id), "after": 3, "limit": 2}, [5, 7]),
            ({"order_id": str(first[0].originator_id), "type": "SlicesExpired"}, [7]),
            ({"order_id": "00000000-0000-0000-0000-000000000007"}, []),
            ({"recorded_from": times[3]}, list(range(4, 12))),
            ({"recorded_before": times[3]}, [1, 2, 3]),
            ({"recorded_from": times[2], "recorded_before": times[5]}, [3, 4, 5]),
            ({"recorded_from": "9999-12-31T23:59:59Z"}, []),
            ({"recorded_before": "0001-01-01T00:00:00Z"}, []),
            ({"recorded_from": "0001-01-01T00:00:00Z", "limit": 1}, [1]),
            ({"after": 11}, []),
        ):
            assert [event["position"] for event in await lines(client, **query)] == expected, query
            found, after = [], query.get("after", 0)
            if "limit" not in query:
                while True:
                    asked = {**query, "after": after, "limit": 2}
                    page = (await client.get(EVENTS, params=asked)).json()
                    found += [event["position"] for event in page["events"]]
                    if page["next_after"] == after:
                        break
                    after = page["next_after"]
                assert found == expected, query


async def test_a_clock_that_was_set_back_leaves_no_gap(database: Database) -> None:
    for number, seconds in enumerate((0, 10, 5, 20), 1):
        event = foreign_event()
        await fetch_as_superuser(
            database,
            "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
            " recorded_at) VALUES (%s, 1, %s, %s, '2026-03-02T03:45:00Z'::timestamptz"
            " + make_interval(secs => %s))",
            *(event.originator_id, f"elsewhere:{number}", event.state, seconds),
        )
    async with streaming(database) as (_, client):
        found = await lines(client, recorded_from="2026-03-02T03:45:10Z")
        assert [event["position"] for event in found] == [2, 3, 4]
        found = await lines(client, recorded_before="2026-03-02T03:45:10Z")
        assert [event["position"] for event in found] == [1]


async def test_csv_has_an_event_a_row_with_every_field(database: Database) -> None:
    history = lived()
    await append(database, [*stored(history), foreign_event(state=b'{"a":1}')])
    async with streaming(database) as (_, client):
        events, found = await lines(client), await rows(client)
    assert list(found[0]) == list(EVENT_COLUMNS)
    assert len(found) == len(events)
    for event, row in zip(events, found, strict=True):
        assert (row["position"], row["version"]) == (str(event["position"]), str(event["version"]))
        assert (row["order_id"], row["recorded_at"]) == (event["order_id"], event["recorded_at"])
        assert row["type"] == event["type"]
    assert found[0]["total_quantity"] == "100"
    assert found[0]["trace_source"] == "test"
    assert found[0]["release"] == "true"
    assert json.loads(found[1]["slices"]) == events[1]["data"]["slices"]
    assert found[4]["reason"] == "'=1+1"
    assert json.loads(found[4]["sequence_numbers"]) == [3, 4, 5]
    assert all(row["other"] == "" for row in found[:-1])
    assert json.loads(found[-1]["other"]) == {"a": 1}


async def test_csv_of_slices_has_their_states_and_times(database: Database) -> None:
    history = lived()
    failed = order_created()
    split = order_created()
    log = [*history, failed, splitting_failed(failed), split, slices_scheduled(split)]
    await append(database, [*stored(log), *foreign_events(2)])
    async with streaming(database) as (_, client):
        found = await rows(client, rows="slices")
        events = await lines(client)
        of_order = await rows(client, rows="slices", order_id=str(split.originator_id))
        assert await rows(client, rows="slices", after=1) == of_order == found[5:]
        assert await rows(client, rows="slices", limit=1) == found[:5]
    assert list(found[0]) == list(SLICE_COLUMNS)
    assert [row["state"] for row in found[:5]] == ["RELEASED", "EXPIRED", *["CANCELLED"] * 3]
    assert [row["settled_position"] for row in found[:5]] == ["3", "4", "5", "5", "5"]
    assert [row["sequence_number"] for row in found[:5]] == ["1", "2", "3", "4", "5"]
    for row, position in zip(found[:5], (3, 4, 5, 5, 5), strict=True):
        assert row["settled_recorded_at"] == events[position - 1]["recorded_at"]
        assert row["settled_at"] == events[position - 1]["occurred_at"]
    assert sum(int(row["quantity"]) for row in found[:5]) == 100
    assert {(row["state"], row["settled_at"]) for row in found[5:]} == {("SCHEDULED", "")}
    assert {row["unreadable_from_version"] for row in found} == {""}


async def test_slices_are_those_before_an_event_that_cannot_be_applied(database: Database) -> None:
    created = order_created()
    split = slices_scheduled(created)
    (broken,) = stored([slices_released(created, split)])
    await append(
        database,
        [*stored([created, split]), StoredEvent(created.originator_id, 3, broken.topic, b"\xff")],
    )
    async with streaming(database) as (_, client):
        found = await rows(client, rows="slices")
    assert {(row["state"], row["unreadable_from_version"]) for row in found} == {("SCHEDULED", "3")}


async def test_an_export_is_compressed_if_gzip_is_accepted(database: Database) -> None:
    await append(database, stored(orders_created(200)))
    async with streaming(database) as (_, client):
        for headers in (NDJSON, CSV):
            plain = await client.get(EVENTS, headers={**headers, "Accept-Encoding": "identity"})
            assert "content-encoding" not in plain.headers
            sent = client.stream("GET", EVENTS, headers={**headers, "Accept-Encoding": "br, gzip"})
            async with sent as response:
                assert response.headers["content-encoding"] == "gzip"
                raw = b"".join([part async for part in response.aiter_raw()])
            assert len(raw) < len(plain.content) / 4
            assert gzip.decompress(raw) == plain.content


async def test_a_download_continues_after_the_last_whole_line(database: Database) -> None:
    await append(database, stored(orders_created(300)))
    async with streaming(database) as (_, client):
        whole = (await client.get(EVENTS, headers=NDJSON)).content
        part = whole[: len(whole) // 3]
        kept = part[: part.rindex(b"\n") + 1]
        after = json.loads(kept.splitlines()[-1])["position"]
        rest = (await client.get(EVENTS, params={"after": after}, headers=NDJSON)).content
    assert kept + rest == whole


@pytest.mark.parametrize(
    ("query", "accept", "error", "field"),
    [
        ("", "application/xml", (406, "NOT_ACCEPTABLE"), None),
        ("", "application/json;q=0", (406, "NOT_ACCEPTABLE"), None),
        ("", "text/html, image/*", (406, "NOT_ACCEPTABLE"), None),
        ("after=1", "text/csv", (400, "POSITION_BEYOND_LOG"), "after"),
        ("after=x", "text/csv", (400, "INVALID_REQUEST"), "after"),
        ("limit=0", "text/csv", (400, "INVALID_REQUEST"), "limit"),
        ("limit=1001", "application/json", (400, "INVALID_REQUEST"), "limit"),
        ("type=OrderFilled", "text/csv", (400, "INVALID_REQUEST"), "type"),
        ("order_id=7", "text/csv", (400, "INVALID_REQUEST"), "order_id"),
        ("rows=orders", "text/csv", (400, "INVALID_REQUEST"), "rows"),
        ("rows=slices", "application/x-ndjson", (400, "INVALID_REQUEST"), "rows"),
        ("rows=slices", "*/*", (400, "INVALID_REQUEST"), "rows"),
        ("rows=slices&type=OrderCreated", "text/csv", (400, "INVALID_REQUEST"), "type"),
        (
            "recorded_from=2026-03-02T03:45:00",
            "text/csv",
            (400, "INVALID_REQUEST"),
            "recorded_from",
        ),
        (
            "recorded_from=2026-03-02T03:45:00Z&recorded_before=2026-03-02T03:44:00Z",
            "text/csv",
            (400, "INVALID_REQUEST"),
            "recorded_before",
        ),
    ],
)
async def test_an_invalid_export_request_is_refused(
    empty_log: httpx.AsyncClient, query: str, accept: str, error: tuple[int, str], field: str | None
) -> None:
    response = await empty_log.get(f"{EVENTS}?{query}", headers={"Accept": accept})
    details = fault(response, *error)
    if field is None:
        assert details["offered"] == OFFERED
        assert all(kind in response.json()["error"]["message"] for kind in OFFERED)
    else:
        assert details["field"] == field


async def test_json_is_the_default(empty_log: httpx.AsyncClient) -> None:
    for accept in ("*/*", "application/*", "application/json", "text/html, */*;q=0.1"):
        response = await empty_log.get(EVENTS, headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json", accept


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], OFFERED[0]),
        ([""], OFFERED[0]),
        (["text/csv"], "text/csv"),
        (["TEXT/CSV; charset=utf-8"], "text/csv"),
        (["text/*"], "text/csv"),
        (["application/json;q=0.5, text/csv"], "text/csv"),
        (["application/json;q=0.5", "text/csv;q=0.4"], OFFERED[0]),
        (["*/*, application/json;q=0"], "application/x-ndjson"),
        (["*/*;q=0.1, text/csv;q=0"], OFFERED[0]),
        (["application/x-ndjson;q=1.5"], None),
        (["application/x-ndjson;q=high"], None),
        (["text/plain"], None),
    ],
)
def test_the_type_preferred_by_the_accept_header_is_chosen(
    accept: list[str], expected: str | None
) -> None:
    assert preferred_type(accept, OFFERED) == expected


def test_gzip_is_accepted_only_if_asked_for() -> None:
    assert accepts_gzip(["gzip"])
    assert accepts_gzip(["br", "x-gzip;q=0.1"])
    assert accepts_gzip(["*"])
    assert not accepts_gzip([])
    assert not accepts_gzip(["gzip;q=0, *"])
    assert not accepts_gzip(["identity"])


async def raw_export(port: int) -> socket.socket:
    """A connection that has requested the log, with a small receive buffer, and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    request = f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n"
    await loop.sock_sendall(connection, request.encode())
    return connection


async def big_log(database: Database) -> None:
    """More than the buffers of a connection hold."""
    state = json.dumps({"text": "x" * 100_000}).encode()
    await append(database, [foreign_event(state=state) for _ in range(150)])


async def test_a_reader_that_stops_reading_is_disconnected(database: Database) -> None:
    await big_log(database)
    limits = FeedLimits(streams=1, stall_seconds=1.0)
    async with streaming(database, limits) as (_, client):
        port = client.base_url.port
        assert port is not None
        stalled = await raw_export(port)

        async def refused() -> bool:
            return (await client.head(EVENTS, headers=NDJSON)).status_code == 503

        async def admitted() -> bool:
            return not await refused()

        await until(refused, "the export is counted")
        await until(admitted, "the stalled export is no longer counted")
        active = await fetch(
            database,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state = 'active'",
        )
        assert active == []
        received = await drained(stalled)
        assert b"0\r\n\r\n" not in received[-16:], "the body has no end"
        stalled.close()


async def drained(connection: socket.socket) -> bytes:
    """What still arrives until the connection closes."""
    received = bytearray()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while part := await loop.sock_recv(connection, 1 << 20):
            received += part
    return bytes(received)


async def test_a_disconnect_ends_the_export(database: Database) -> None:
    await big_log(database)
    async with streaming(database, FeedLimits(streams=1)) as (_, client):
        port = client.base_url.port
        assert port is not None
        connection = await raw_export(port)

        async def refused() -> bool:
            return (await client.head(EVENTS, headers=NDJSON)).status_code == 503

        await until(refused, "the export is counted")
        assert "event streams" in (await client.get(EVENTS, headers=NDJSON)).text
        connection.close()

        async def admitted() -> bool:
            return not await refused()

        await until(admitted, "the export is no longer counted")


async def test_an_export_counts_as_a_stream(database: Database) -> None:
    async with (
        streaming(database, FeedLimits(streams=1)) as (_, client),
        stream_of(client) as messages,
    ):
        await anext(messages)
        response = await client.get(EVENTS, headers=NDJSON)
        fault(response, 503, "UNAVAILABLE")
        assert (await client.get(EVENTS)).status_code == 200


async def test_a_stopping_process_ends_exports_without_their_end(database: Database) -> None:
    await big_log(database)
    async with streaming(database) as (feed, client):
        port = client.base_url.port
        assert port is not None
        connection = await raw_export(port)
        await asyncio.sleep(0)

        async def counted() -> bool:
            return (await asyncio.get_running_loop().sock_recv(connection, 1)) == b"H"

        await until(counted, "the export has begun")
        feed.stop()
        received = await drained(connection)
        assert not received.endswith(b"0\r\n\r\n")
        connection.close()


async def test_a_replaced_log_ends_the_export(database: Database) -> None:
    await big_log(database)
    async with streaming(database) as (_, client):
        port = client.base_url.port
        assert port is not None
        connection = await raw_export(port)
        await asyncio.get_running_loop().sock_recv(connection, 1)
        await fetch_as_superuser(database, "UPDATE log_identity SET log_id = gen_random_uuid()")
        received = await drained(connection)
        assert not received.endswith(b"0\r\n\r\n")
        lines_received = len(re.findall(rb'"position":', received))
        assert lines_received < 150
        connection.close()
