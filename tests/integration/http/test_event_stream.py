"""The log as server-sent events: what is sent, where it resumes, how it ends, what is refused."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.event_feed import FeedLimits, Partition
from pulse.application.event_view import TOPICS
from pulse.domain import HALTS_STREAM_ID
from pulse.http.asgi import CALLER_KEY, ASGIApp
from pulse.http.limits import RateLimiter, RateLimitMiddleware
from pulse.postgres import Database
from tests.support import http2
from tests.support.database import as_runtime, cloned_database
from tests.support.event_streams import (
    STREAM,
    Message,
    collect,
    next_of,
    stream_of,
    streaming,
)
from tests.support.events import foreign_events, orders_created, splitting_failed, stored
from tests.support.log import fetch, fetch_as_superuser, running_appender
from tests.support.orders import fault
from tests.support.waiting import until

LAST = 2**63 - 1


async def append(database: Database, events: Sequence[StoredEvent]) -> None:
    async with running_appender(database) as appender:
        await appender.append(events)


@pytest.fixture(scope="module")
async def three_events(postgres: str, template_database: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over a log of three events, to which nothing is added."""
    with cloned_database(postgres, template_database) as conninfo:
        database = Database(as_runtime(conninfo), pool_size=2)
        await database.open()
        await append(database, stored(orders_created(3)))
        async with streaming(database) as (_, client):
            yield client
        await database.close()


async def log_id_of(database: Database) -> str:
    ((log_id,),) = await fetch(database, "SELECT log_id FROM log_identity")
    return str(log_id)


async def test_a_stream_has_the_events_of_the_log_and_then_each_new_one(
    database: Database,
) -> None:
    created = orders_created(3)
    await append(database, stored(created))
    async with streaming(database) as (_, client), stream_of(client) as messages:
        first = await anext(messages)
        log_id = await log_id_of(database)
        assert first == Message(0, "log", {"position": 0, "log_id": log_id})
        seen = await collect(messages, 3)
        await append(database, stored([splitting_failed(created[0])]))
        seen += await collect(messages, 1)
    assert [message.id for message in seen] == [1, 2, 3, 4]
    assert [message.data["position"] for message in seen] == [1, 2, 3, 4]
    assert [message.data["type"] for message in seen] == ["OrderCreated"] * 3 + ["SplittingFailed"]


async def test_a_stream_begins_after_a_position_and_last_event_id_takes_precedence(
    database: Database,
) -> None:
    await append(database, stored(orders_created(5)))
    async with streaming(database) as (_, client):
        async with stream_of(client, after=3) as messages:
            assert (await anext(messages)).id == 3
            assert [m.id for m in await collect(messages, 2)] == [4, 5]
        async with stream_of(client, last_event_id=1, after=3) as messages:
            assert [m.id for m in await collect(messages, 4)] == [2, 3, 4, 5]
        async with stream_of(client, last_event_id=5, after=LAST) as messages:
            assert (await anext(messages)).id == 5


async def test_a_reader_of_a_rare_type_receives_the_position_in_heartbeats(
    database: Database,
) -> None:
    created = orders_created(40)
    await append(database, [*stored(created), *stored([splitting_failed(created[0])])])
    limits = FeedLimits(heartbeat_seconds=0.05)
    async with (
        streaming(database, limits) as (feed, client),
        stream_of(client, type="SplittingFailed") as messages,
    ):
        assert [m.id for m in await collect(messages, 1)] == [41]
        await append(database, foreign_events(7))
        while (beat := await next_of(messages, "heartbeat")).id < 48:
            assert beat.id >= 41
        assert beat == Message(
            48, "heartbeat", {"position": 48, "log_id": await log_id_of(database)}
        )
        feed.stop()
        assert (await next_of(messages, "end")).id == 48


async def test_partitions_have_every_event_once(database: Database) -> None:
    created = orders_created(50)
    await append(database, [*stored(created), *foreign_events(10)])
    rows = await fetch(
        database, "SELECT notification_id, originator_id FROM stored_events ORDER BY 1"
    )
    async with streaming(database) as (_, client):
        for number in range(3):
            expected = [position for position, order in rows if order.int % 3 == number]
            async with stream_of(client, partition=f"{number}/3") as messages:
                seen = await collect(messages, len(expected))
            assert [message.id for message in seen] == expected
        async with stream_of(client, partition="0/1") as messages:
            assert len(await collect(messages, 60)) == 60


async def test_halts_are_in_every_partition(database: Database) -> None:
    halted = StoredEvent(HALTS_STREAM_ID, 1, TOPICS["ReleasesHalted"], b"{}")
    await append(database, [halted])
    async with streaming(database) as (_, client):
        for number in range(3):
            async with stream_of(client, partition=f"{number}/3") as messages:
                (event,) = await collect(messages, 1)
            assert (event.data["type"], event.data["order_id"]) == ("ReleasesHalted", None)


def test_events_of_no_order_are_in_every_partition() -> None:
    order = UUID(int=7)
    assert [Partition(number, 4).has(order) for number in range(4)] == [False, False, False, True]
    assert all(Partition(number, 4).has(None) for number in range(4))


@pytest.mark.parametrize(
    ("query", "headers", "code", "field"),
    [
        ("partition=4/4", {}, "INVALID_REQUEST", "partition"),
        ("partition=0/0", {}, "INVALID_REQUEST", "partition"),
        ("partition=a/b", {}, "INVALID_REQUEST", "partition"),
        ("partition=-1/3", {}, "INVALID_REQUEST", "partition"),
        ("partition=1", {}, "INVALID_REQUEST", "partition"),
        ("partition=", {}, "INVALID_REQUEST", "partition"),
        ("partition=0/1025", {}, "INVALID_REQUEST", "partition"),
        ("partition=0/99999999999", {}, "INVALID_REQUEST", "partition"),
        ("partition=0/2&partition=1/2", {}, "INVALID_REQUEST", "partition"),
        ("partition=%D9%A1/4", {}, "INVALID_REQUEST", "partition"),
        ("type=OrderFilled", {}, "INVALID_REQUEST", "type"),
        ("type=TimedOut&type=TimedOut", {}, "INVALID_REQUEST", "type"),
        ("after=-1", {}, "INVALID_REQUEST", "after"),
        ("after=x", {"Last-Event-ID": "1"}, "INVALID_REQUEST", "after"),
        ("limit=5", {}, "INVALID_REQUEST", "limit"),
        ("", {"Last-Event-ID": "x"}, "INVALID_REQUEST", "Last-Event-ID"),
        ("", {"Last-Event-ID": "-1"}, "INVALID_REQUEST", "Last-Event-ID"),
        ("", {"Last-Event-ID": ""}, "INVALID_REQUEST", "Last-Event-ID"),
        ("", {"Last-Event-ID": "1.0"}, "INVALID_REQUEST", "Last-Event-ID"),
        ("", {"Last-Event-ID": "4"}, "POSITION_BEYOND_LOG", "Last-Event-ID"),
        ("", {"Last-Event-ID": "9" * 30}, "POSITION_BEYOND_LOG", "Last-Event-ID"),
        ("after=4", {}, "POSITION_BEYOND_LOG", "after"),
    ],
)
async def test_an_invalid_stream_request_is_refused(
    three_events: httpx.AsyncClient, query: str, headers: dict[str, str], code: str, field: str
) -> None:
    response = await three_events.get(f"{STREAM}?{query}", headers=headers)
    assert fault(response, 400, code)["field"] == field


async def test_a_repeated_last_event_id_is_refused(three_events: httpx.AsyncClient) -> None:
    headers = [("Last-Event-ID", "0"), ("Last-Event-ID", "0")]
    response = await three_events.get(STREAM, headers=headers)
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "Last-Event-ID"


async def test_head_is_answered_without_a_stream(three_events: httpx.AsyncClient) -> None:
    response = await three_events.head(STREAM)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_one_stream_more_than_allowed_is_refused_until_one_is_closed(
    database: Database,
) -> None:
    async with streaming(database, FeedLimits(streams=2)) as (_, client), stream_of(client):
        async with stream_of(client):
            response = await client.get(STREAM)
            fault(response, 503, "UNAVAILABLE")
            assert response.headers["retry-after"] == "1"

        async def admitted() -> bool:
            async with client.stream("GET", STREAM) as again:
                return again.status_code == 200

        await until(admitted, "the stream that was closed is no longer counted")
        assert (await client.get("/internal/hello")).status_code == 200


async def test_streams_end_with_a_last_message_when_the_process_stops(
    database: Database,
) -> None:
    await append(database, stored(orders_created(2)))
    async with streaming(database) as (feed, client), stream_of(client) as messages:
        await collect(messages, 2)
        feed.stop()
        end = await anext(messages)
        assert (end.id, end.kind, end.data["reason"]) == (2, "end", "SHUTDOWN")
        assert end.data["log_id"] == await log_id_of(database)
        assert [message async for message in messages] == []
        async with stream_of(client, after=1) as later:
            assert [message.kind async for message in later] == ["log", "end"]


@pytest.mark.parametrize("how", ["renewed", "cut off"])
async def test_a_stream_of_another_log_ends(database: Database, how: str) -> None:
    await append(database, stored(orders_created(4)))
    async with streaming(database) as (_, client), stream_of(client) as messages:
        log_id = (await anext(messages)).data["log_id"]
        await collect(messages, 4)
        if how == "renewed":
            await fetch_as_superuser(database, "UPDATE log_identity SET log_id = gen_random_uuid()")
        else:
            await fetch_as_superuser(database, "ALTER TABLE stored_events DISABLE TRIGGER ALL")
            await fetch_as_superuser(
                database, "DELETE FROM stored_events WHERE notification_id > 2"
            )
        end = await next_of(messages, "end")
        assert (end.id, end.data["reason"], end.data["log_id"]) == (4, "LOG_CHANGED", log_id)
        if how == "renewed":
            async with stream_of(client) as again:
                assert (await anext(again)).data["log_id"] == await log_id_of(database) != log_id
                assert len(await collect(again, 4)) == 4


async def test_a_stalled_reader_is_closed_with_a_last_message_and_loses_nothing(
    database: Database,
) -> None:
    """Once the reader reads again, it gets everything up to the last message, and can resume."""
    await append(database, foreign_events_of(3000, size=2000))
    limits = FeedLimits(stall_seconds=0.3, streams=1)
    async with streaming(database, limits) as (_, client):
        port = client.base_url.port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port)) as stalled:
            stalled.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

            async def is_over() -> bool:
                async with client.stream("GET", STREAM) as other:
                    return other.status_code == 200

            await until(is_over, "the stalled reader is no longer counted")
            received = await asyncio.to_thread(_read_to_end, stalled)
        events = [json.loads(line[6:]) for line in received if line.startswith("data: ")]
        *seen, end = events[1:]
        assert end["reason"] == "TOO_SLOW"
        assert [event["position"] for event in seen] == list(range(1, end["position"] + 1))
        assert 0 < end["position"] < 3000
        async with stream_of(client, last_event_id=end["position"]) as messages:
            rest = await collect(messages, 3000 - end["position"])
            assert rest[0].id == end["position"] + 1
            assert rest[-1].id == 3000


async def test_a_stalled_reader_over_http2_is_closed_with_a_last_message(
    database: Database,
) -> None:
    """It opens no window beyond the first 64 KiB before its stream has ended."""
    await append(database, foreign_events_of(3000, size=2000))
    limits = FeedLimits(stall_seconds=0.3, streams=1)
    async with streaming(database, limits) as (_, client):
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        headers = http2.head("GET", STREAM)
        flags = http2.END_STREAM | http2.END_HEADERS
        writer.write(
            http2.PREFACE
            + http2.frame(http2.SETTINGS, 0, 0)
            + http2.frame(http2.HEADERS, flags, 1, headers)
        )

        async def is_over() -> bool:
            async with client.stream("GET", STREAM) as other:
                return other.status_code == 200

        async with asyncio.timeout(10):
            received = await reader.readexactly(60_000)
            assert b"event: log" in received
            await until(is_over, "the stalled reader is no longer counted")
            for stream in (0, 1):
                more = (2**24).to_bytes(4)
                writer.write(http2.frame(http2.WINDOW_UPDATE, 0, stream, more))
            received += await reader.readuntil(b'"reason":"TOO_SLOW"')
        assert received.count(b"event: end") == 1
        assert b"id: 3000\n" not in received.partition(b"event: end")[0]
        writer.close()


def foreign_events_of(count: int, size: int) -> list[StoredEvent]:
    state = json.dumps({"text": "x" * size}).encode()
    return [
        StoredEvent(event.originator_id, 1, event.topic, state) for event in foreign_events(count)
    ]


def _read_to_end(connection: socket.socket) -> list[str]:
    """The lines of a chunked response, without the sizes of the chunks, until the last chunk."""
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        piece = connection.recv(1 << 20)
        assert piece, "the response is complete"
        received += piece
    body = b""
    _, _, rest = received.partition(b"\r\n\r\n")
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body.decode().splitlines()
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


async def test_a_stream_is_not_a_request_in_flight_of_its_caller() -> None:
    over = asyncio.Event()

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await over.wait()

    async def call(app: ASGIApp) -> asyncio.Task[None]:
        """A call whose response has started."""
        started = asyncio.Event()

        async def send(_: Any) -> None:
            started.set()

        scope = {CALLER_KEY: None, "client": ("127.0.0.1", 1)}
        call = asyncio.create_task(_awaited(app(scope, _no_message, send)))
        await started.wait()
        return call

    limited = RateLimitMiddleware(app, RateLimiter(1000, 1), max_in_flight=1)
    streams = [await call(limited), await call(limited)]
    over.set()
    await asyncio.gather(*streams)


async def _awaited(call: Awaitable[None]) -> None:
    await call


async def _no_message() -> Any:
    return {"type": "http.disconnect"}


async def test_a_stream_outlives_the_connections_of_the_pool(database: Database) -> None:
    await append(database, stored(orders_created(1)))
    async with streaming(database) as (_, client), stream_of(client) as messages:
        await collect(messages, 1)
        async with await database.connect("test") as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'pulse:pool@%'"
            )
        await append(database, stored(orders_created(1)))
        assert [m.id for m in await collect(messages, 1)] == [2]
