"""A TCP proxy for Postgres that parses the protocol and can interrupt a statement at any byte.

Unlike `tests.support.proxy` it recognizes statements by their text, can hold a connection open in
the middle of one, and can drop all packets.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from psycopg.conninfo import conninfo_to_dict

_BROKEN: Final = (OSError, EOFError, RuntimeError)
_PARTS: Final = b"PBDEC"
"""Types of the messages that belong to an extended query; the next other message ends it."""


class Sent(msgspec.Struct, frozen=True):
    """A statement that the client has sent. `before` is the connection's previous statement."""

    text: str
    size: int
    before: str


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """How to interrupt one statement.

    `request_bytes` of the request reach the server; if None, the whole request does, and
    `reply_bytes` of the reply reach the client. In a request `on_reached` is called at that point,
    and the rest is sent once `resume` is set. Without `resume`, and in a reply, the connection is
    cut.
    """

    request_bytes: int | None = None
    reply_bytes: int = 0
    on_reached: Callable[[], None] | None = None
    resume: asyncio.Event | None = None


class _Link:
    """One connection: both its ends, and the texts of its prepared statements."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.client_reader, self.client = client
        self.server_reader, self.server = server
        self.prepared: dict[bytes, str] = {}
        self.before = ""
        self.text = ""
        self.reply_size = 0
        self.reply_left: int | None = None

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Proxy:
    """A proxy on the loopback. `interrupt` is called with every statement.

    `on_reply` is called after each reply with the statement's text and the size of the reply.
    """

    def __init__(self, conninfo: str) -> None:
        self.interrupt: Callable[[Sent], Interruption | None] = lambda _: None
        self.on_reply: Callable[[str, int], None] = lambda _text, _size: None
        self._upstream = conninfo_to_dict(conninfo)
        self._healed = asyncio.Event()
        self._healed.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0

    @classmethod
    @asynccontextmanager
    async def in_front_of(cls, conninfo: str) -> AsyncIterator["Proxy"]:
        """A running proxy; at first it forwards everything."""
        proxy = cls(conninfo)
        listening = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy._port = listening.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            listening.close()
            proxy.heal()
            for writer in list(proxy._writers):
                writer.transport.abort()
            if proxy._serving:
                await asyncio.wait(proxy._serving)

    @property
    def url(self) -> str:
        """The PULSE_DATABASE_URL of the same database through the proxy."""
        user = quote(str(self._upstream.get("user", "")), safe="")
        at = f"{user}@" if user else ""
        return (
            f"postgresql://{at}127.0.0.1:{self._port}/{self._upstream['dbname']}"
            "?sslmode=disable&gssencmode=disable"
        )

    def drop_all(self) -> None:
        """Drop all packets in both directions, those that end a connection too."""
        self._healed.clear()

    def heal(self) -> None:
        """Forward packets of new connections again; cut the old connections."""
        if not self._dropping:
            return
        self._healed.set()
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def _dropping(self) -> bool:
        return not self._healed.is_set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            if not self._dropping:
                with contextlib.suppress(OSError):
                    await self._link(_Link((reader, writer), await self._connect_upstream()))
            await self._healed.wait()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _link(self, link: _Link) -> None:
        self._writers.add(link.server)
        pumps = {
            asyncio.ensure_future(_until_broken(self._requests, link)),
            asyncio.ensure_future(_until_broken(self._replies, link)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            await self._healed.wait()  # while packets are dropped, a FIN is dropped too
        finally:
            self._writers.discard(link.server)
            for writer in (link.client, link.server):
                writer.close()  # flushes what was forwarded
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _connect_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._upstream["host"], self._upstream.get("port", 5432)
        return await asyncio.open_unix_connection(str(Path(str(host)) / f".s.PGSQL.{port}"))

    async def _requests(self, link: _Link) -> None:
        """Forward the client's messages; those of one statement or pipeline go together."""
        size = await link.client_reader.readexactly(4)
        link.server.write(size + await link.client_reader.readexactly(int.from_bytes(size) - 4))
        request, texts = b"", []
        while True:
            kind, message = await _message(link.client_reader)
            request += message
            if text := _text(link, kind, message):
                texts.append(text)
            if kind in _PARTS:
                continue
            if not self._dropping:
                await self._forward(link, request, "\n".join(texts))
            request, texts = b"", []

    async def _forward(self, link: _Link, request: bytes, text: str) -> None:
        stop = self.interrupt(Sent(text, len(request), link.before)) if text else None
        if text:
            link.before, link.text, link.reply_size, link.reply_left = text, text, 0, None
        if stop is None or stop.request_bytes is None:
            link.reply_left = None if stop is None else stop.reply_bytes
            link.server.write(request)
            await link.server.drain()
            return
        link.server.write(request[: stop.request_bytes])
        await link.server.drain()
        if stop.on_reached is not None:
            stop.on_reached()
        if stop.resume is None:
            raise EOFError
        await stop.resume.wait()
        link.server.write(request[stop.request_bytes :])

    async def _replies(self, link: _Link) -> None:
        """Forward the server's messages, up to the byte of an interruption."""
        while True:
            kind, message = await _message(link.server_reader)
            if self._dropping:
                continue
            link.reply_size += len(message)
            if link.reply_left is None:
                link.client.write(message)
            else:
                link.client.write(message[: link.reply_left])
                link.reply_left -= min(link.reply_left, len(message))
            await link.client.drain()
            if kind == b"Z" and link.text:
                self.on_reply(link.text, link.reply_size)
                if link.reply_left is not None:
                    raise EOFError
                link.text = ""


def _text(link: _Link, kind: bytes, message: bytes) -> str:
    """The text of the statement that this message executes; "" for other messages."""
    if kind == b"Q":
        return message[5:-1].decode()
    if kind == b"P":
        name, query, _ = message[5:].split(b"\0", 2)
        link.prepared[name] = query.decode()
        return ""
    if kind == b"B":
        _, name, _ = message[5:].split(b"\0", 2)
        return link.prepared.get(name, "")
    return ""


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


async def _until_broken(pump: Callable[[_Link], Awaitable[None]], link: _Link) -> None:
    with contextlib.suppress(*_BROKEN):
        await pump(link)
