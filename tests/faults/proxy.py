"""A TCP proxy in front of Postgres that knows statements, and stops at any byte of any of them.

Beside the one of the integration tests: it tells statements apart by their text, leaves
connections open in the midst of one, and can be a network that swallows everything.
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
"""Kinds of messages that are parts of a statement; whatever comes next ends it."""


class Sent(msgspec.Struct, frozen=True):
    """A statement on its way: its text, its size, the text of the one before it there."""

    text: str
    size: int
    before: str


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of one statement stop.

    `request_bytes` of it reach the server; or, if None, all of them do, and `reply_bytes` of the
    answer reach the client. Then `reached` is called, and the rest of a request goes on its way
    once `held` is set; without `held` the connection is cut.
    """

    request_bytes: int | None = None
    reply_bytes: int = 0
    reached: Callable[[], None] | None = None
    held: asyncio.Event | None = None


class _Link:
    """One connection: where its bytes go, and the texts of what was prepared on it."""

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
    """Listens on the loopback; `meet` is asked about every statement that comes by.

    `on_reply` hears of every whole answer: the statement's text and the answer's size.
    """

    def __init__(self, conninfo: str) -> None:
        self.meet: Callable[[Sent], Stop | None] = lambda _: None
        self.on_reply: Callable[[str, int], None] = lambda _text, _size: None
        self._upstream = conninfo_to_dict(conninfo)
        self._healed = asyncio.Event()
        self._healed.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0

    @classmethod
    @asynccontextmanager
    async def before(cls, conninfo: str) -> AsyncIterator["Proxy"]:
        """A proxy while in use; it lets everything through until told otherwise."""
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
        """The same database, as PULSE_DATABASE_URL names it, through the proxy."""
        user = quote(str(self._upstream.get("user", "")), safe="")
        at = f"{user}@" if user else ""
        return (
            f"postgresql://{at}127.0.0.1:{self._port}/{self._upstream['dbname']}"
            "?sslmode=disable&gssencmode=disable"
        )

    def swallow(self) -> None:
        """From now on bytes vanish both ways, ends of connections too, and nothing is closed."""
        self._healed.clear()

    def heal(self) -> None:
        """New connections work again; those of before are found to be dead."""
        if not self._swallowing:
            return
        self._healed.set()
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def _swallowing(self) -> bool:
        return not self._healed.is_set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            if not self._swallowing:
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
            await self._healed.wait()  # who is cut off does not hear of the other side's end
        finally:
            self._writers.discard(link.server)
            for writer in (link.client, link.server):
                writer.close()  # what was let through still arrives
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _connect_upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._upstream["host"], self._upstream.get("port", 5432)
        return await asyncio.open_unix_connection(str(Path(str(host)) / f".s.PGSQL.{port}"))

    async def _requests(self, link: _Link) -> None:
        """Forward the client's messages, those of a statement (or a pipeline) together."""
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
            if not self._swallowing:
                await self._forward(link, request, "\n".join(texts))
            request, texts = b"", []

    async def _forward(self, link: _Link, request: bytes, text: str) -> None:
        stop = self.meet(Sent(text, len(request), link.before)) if text else None
        if text:
            link.before, link.text, link.reply_size, link.reply_left = text, text, 0, None
        if stop is None or stop.request_bytes is None:
            link.reply_left = None if stop is None else stop.reply_bytes
            link.server.write(request)
            await link.server.drain()
            return
        link.server.write(request[: stop.request_bytes])
        await link.server.drain()
        if stop.reached is not None:
            stop.reached()
        if stop.held is None:
            raise EOFError
        await stop.held.wait()
        link.server.write(request[stop.request_bytes :])

    async def _replies(self, link: _Link) -> None:
        """Forward the server's messages as far as they may go."""
        while True:
            kind, message = await _message(link.server_reader)
            if self._swallowing:
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
    """The text of the statement that this message is of, if it is the one that names it."""
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
