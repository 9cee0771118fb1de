"""A caller's record of its orders, flushed to disk before the caller acts on it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import msgspec

from pulse.domain import INTERNAL_SCOPE, Quantities, order_id_for


class CancelAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a cancel: 200 with the order's version and quantities, or 409."""

    status: int
    quantities: Quantities
    version: int | None = None


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: an order was sent, Pulse accepted it as `order_id`, or a cancel was answered."""

    key: str
    request: dict[str, Any] | None = None
    scope: str = INTERNAL_SCOPE
    order_id: UUID | None = None
    cancel: CancelAnswer | None = None


class Known(msgspec.Struct):
    """The ledger's record of one order. `request` stays JSON to save memory with many orders."""

    key: str
    scope: str
    request: bytes
    accepted_as: UUID | None = None
    cancels: tuple[CancelAnswer, ...] = ()

    @property
    def order_id(self) -> UUID:
        """The id that an order with this scope and key must have."""
        return order_id_for(self.scope, self.key)


Orders = dict[tuple[str, str], Known]
"""The orders of a ledger, by scope and key."""


class Ledger:
    """An append-only file. `write` returns once its entry is flushed to the disk.

    Entries that arrive during a flush share the next one, so the disk does not limit the load.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Self]:
        """A ledger in this file, closed on exit."""
        ledger = cls(path)
        flushing = asyncio.ensure_future(ledger._flush_forever())
        try:
            yield ledger
        finally:
            flushing.cancel()
            await asyncio.wait({flushing})
            ledger._file.close()

    async def write(self, entry: Entry) -> None:
        """Append this entry durably."""
        flushed = asyncio.get_running_loop().create_future()
        self._waiting.append((msgspec.json.encode(entry) + b"\n", flushed))
        self._arrived.set()
        await flushed

    def read(self) -> Orders:
        """The orders in the file."""
        known: Orders = {}
        decode = msgspec.json.Decoder(Entry).decode
        with self.path.open("rb") as lines:
            for line in lines:
                entry = decode(line)
                if entry.request is not None:
                    request = msgspec.json.encode(entry.request)
                    fresh = Known(entry.key, sys.intern(entry.scope), request)
                    known.setdefault((fresh.scope, fresh.key), fresh)
                elif entry.cancel is not None:
                    known[entry.scope, entry.key].cancels += (entry.cancel,)
                else:
                    known[entry.scope, entry.key].accepted_as = entry.order_id
        return known

    async def _flush_forever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            waiting, self._waiting = self._waiting, []
            await asyncio.to_thread(self._flush, b"".join(line for line, _ in waiting))
            for _, flushed in waiting:
                if not flushed.done():
                    flushed.set_result(None)

    def _flush(self, lines: bytes) -> None:
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())
