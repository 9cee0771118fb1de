"""A TCP proxy for Postgres that parses the protocol and can fail at any byte."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_BROKEN = (OSError, EOFError, RuntimeError)


@dataclass
class Fault:
    """A fault of one statement.

    `request_bytes`: only this many bytes of it reach the server, then the connection is cut.
    `reply_bytes`: the server executes it, and only this many bytes of the reply reach the client
    before the connection is cut.
    `silent`: the server executes it, the reply is dropped, the connection stays open.
    `client_only`: the client is cut off immediately; the server executes the statement.
    `hold`: the statement is delayed until this event is set. `held` is set when the delay begins.
    """

    request_bytes: int | None = None
    reply_bytes: int | None = None
    silent: bool = False
    client_only: bool = False
    hold: asyncio.Event | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cuts_after_the_statement(self) -> bool:
        """Whether the connection is cut after the server has executed the statement."""
        return self.client_only or self.reply_bytes is not None


@dataclass(eq=False)
class _Link:
    client_reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server: asyncio.StreamWriter
    fault: Fault | None = None
    executing: bool = False
    reply_size: int = 0

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class PostgresProxy:
    """A proxy on the loopback. Each statement takes the next of `faults`; None means no fault.

    While `drop_notifications` is set, notifications to clients are dropped and counted in
    `dropped_notifications`.
    """

    def __init__(self, conninfo: str) -> None:
        self.faults: deque[Fault | None] = deque()
        self.drop_notifications = False
        self.dropped_notifications = 0
        self.request_sizes: list[int] = []
        self.reply_sizes: list[int] = []
        self._upstream = conninfo
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None] | None] = set()
        self._listening: asyncio.Server | None = None
        self._port = 0

    @property
    def conninfo(self) -> str:
        """The address of the same database through the proxy."""
        return make_conninfo(
            self._upstream,
            host="127.0.0.1",
            port=self._port,
            sslmode="disable",
            gssencmode="disable",
        )

    async def accept(self) -> None:
        """Accept clients, always on the same port."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._listening.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Cut every connection and refuse new ones, as if Postgres were down."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for link in list(self._links):
            link.cut()

    async def close(self) -> None:
        """Refuse clients, and wait until every connection has ended."""
        self.refuse()
        tasks = [task for task in self._serving if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        server_reader, server = await self._connect_upstream()
        link = _Link(reader, writer, server_reader, server)
        self._links.add(link)
        pumps = {
            asyncio.ensure_future(_until_broken(self._requests, link)),
            asyncio.ensure_future(_until_broken(self._replies, link)),
        }
        try:
            if self._listening is None:
                return
            _, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if link.fault is not None and link.fault.client_only:
                link.client.transport.abort()
                await asyncio.wait(rest)
        finally:
            link.cut()
            self._links.discard(link)
            for pump in pumps:
                pump.cancel()

    async def _connect_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        upstream = conninfo_to_dict(self._upstream)
        host, port = str(upstream.get("host", "127.0.0.1")), str(upstream.get("port", 5432))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(str(Path(host) / f".s.PGSQL.{port}"))
        return await asyncio.open_connection(host, int(port))

    async def _requests(self, link: _Link) -> None:
        """Forward the client's messages, those of a statement together with their Sync."""
        size = await link.client_reader.readexactly(4)
        startup = size + await link.client_reader.readexactly(int.from_bytes(size) - 4)
        link.server.write(startup)
        group, executes = b"", False
        while True:
            kind, message = await _message(link.client_reader)
            group += message
            executes = executes or kind == b"E"
            if kind in b"PBDEC":
                continue
            if executes:
                await self._statement(link, group)
            else:
                link.server.write(group)
            group, executes = b"", False

    async def _statement(self, link: _Link, request: bytes) -> None:
        self.request_sizes.append(len(request))
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.hold is not None:
            fault.held.set()
            await fault.hold.wait()
        link.fault, link.executing, link.reply_size = fault, True, 0
        if fault is not None and fault.request_bytes is not None:
            link.server.write(request[: fault.request_bytes])
            link.server.close()
            await link.server.wait_closed()
            raise EOFError
        link.server.write(request)
        if fault is not None and fault.client_only:
            raise EOFError

    async def _replies(self, link: _Link) -> None:
        """Forward the server's messages as far as the statement's fault allows."""
        while True:
            kind, message = await _message(link.server_reader)
            if kind == b"A" and self.drop_notifications:
                self.dropped_notifications += 1
                continue
            link.client.write(message[: _allowed(link, len(message))])
            link.reply_size += len(message)
            if kind == b"Z" and link.executing:
                link.executing = False
                self.reply_sizes.append(link.reply_size)
                if link.fault is not None and link.fault.cuts_after_the_statement:
                    link.client.close()
                    await link.client.wait_closed()
                    raise EOFError


def _allowed(link: _Link, size: int) -> int:
    """The number of bytes of a message that the client receives."""
    fault = link.fault
    if fault is None:
        return size
    if fault.silent or fault.client_only:
        return 0
    return size if fault.reply_bytes is None else max(0, fault.reply_bytes - link.reply_size)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


async def _until_broken(pump: Callable[[_Link], Awaitable[None]], link: _Link) -> None:
    with contextlib.suppress(*_BROKEN):
        await pump(link)


@contextlib.asynccontextmanager
async def proxied(conninfo: str) -> AsyncIterator[PostgresProxy]:
    """A running proxy without faults."""
    proxy = PostgresProxy(conninfo)
    await proxy.accept()
    try:
        yield proxy
    finally:
        await proxy.close()
