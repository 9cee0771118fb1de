"""Servers of event streams on real sockets, and readers of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, cast

import httpx
import uvicorn

from pulse.application.event_feed import EventFeed, FeedLimits
from pulse.eventstore import EventStore
from pulse.http.api.app import ApiUseCases, create_api
from pulse.http.asgi import ASGIApp
from pulse.http.auth import InternalAuthMiddleware
from pulse.http.server_sent_events import render_event
from pulse.loop import Loop
from pulse.postgres import Database
from pulse.process.uvicorn_fixes import fix_uvicorn
from tests.support.api import root_of
from tests.support.log import orders_on, running
from tests.support.processes import PLAIN_HTTP, free_port
from tests.support.waiting import until

STREAM = "/internal/events/stream"
POLL_SECONDS = 0.05


class Message(NamedTuple):
    """A server-sent event; `kind` is empty for an event of the log."""

    id: int
    kind: str
    data: Any


def message_of(lines: list[str]) -> Message:
    """The message of these lines; each field occurs once."""
    pairs = [line.partition(": ") for line in lines]
    fields = {name: value for name, _, value in pairs}
    assert len(fields) == len(lines), lines
    assert fields.keys() <= {"id", "event", "data", "retry"}, lines
    return Message(int(fields["id"]), fields.get("event", ""), json.loads(fields["data"]))


async def messages_in(response: httpx.Response) -> AsyncIterator[Message]:
    """The messages of a stream until it ends."""
    lines: list[str] = []
    async for line in response.aiter_lines():
        if line:
            lines.append(line)
        else:
            yield message_of(lines)
            lines = []
    assert not lines, "every message is complete"


@asynccontextmanager
async def stream_of(
    client: httpx.AsyncClient, url: str = STREAM, last_event_id: object = None, **query: object
) -> AsyncIterator[AsyncIterator[Message]]:
    """The messages of a stream that is read while it arrives."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    text = "&".join(f"{name}={value}" for name, value in query.items())
    async with client.stream("GET", f"{url}?{text}", headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
        assert response.status_code == httpx.codes.OK, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield messages_in(response)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve on uvicorn, as Pulse does; yields the URL. A stop waits at most 1 s for streams."""
    fix_uvicorn()
    port = free_port()
    config = uvicorn.Config(
        cast("Any", app),
        port=port,
        loop="none",
        http="zttp",
        http2=True,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started or serving.done()

    await until(started, "uvicorn serves")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def streaming(
    database: Database, limits: FeedLimits | None = None
) -> AsyncIterator[tuple[EventFeed, httpx.AsyncClient]]:
    """The API with a running feed that no notification reaches, and a client of it."""
    store = EventStore(database, on_commit=lambda: None)
    feed = EventFeed(store, render_event, limits=limits)
    unused = cast("Any", None)
    orders = orders_on(database, store)
    api = InternalAuthMiddleware(
        create_api(ApiUseCases(orders, unused, unused, feed, unused, unused)), ()
    )
    loop = Loop(feed, wake_up=feed.wake_up, poll_seconds=POLL_SECONDS)
    async with (
        running(loop.run),
        root_of(api) as root,
        served(root) as url,
        httpx.AsyncClient(
            base_url=url, timeout=30, trust_env=False, verify=PLAIN_HTTP, limits=_UNLIMITED
        ) as client,
    ):
        try:
            yield feed, client
        finally:
            feed.stop()


_UNLIMITED = httpx.Limits(max_connections=None)


async def collect(messages: AsyncIterator[Message], count: int) -> list[Message]:
    """The next `count` events of the log; other messages are skipped."""
    found: list[Message] = []
    async for message in messages:
        if not message.kind:
            found.append(message)
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {len(found)} of {count} events")


async def next_of(messages: AsyncIterator[Message], kind: str) -> Message:
    """The next message of this kind; others are skipped."""
    async for message in messages:
        if message.kind == kind:
            return message
    raise AssertionError(f"the stream ended without {kind}")
