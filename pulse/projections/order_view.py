"""One order as people ask for it: read from its stream, with its claim laid over."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal, LiteralString
from uuid import UUID

import msgspec

from pulse.domain import Order, Slice, SplitConfig, fold
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.postgres import BatchLoader, Connection, Database, load_sql

Row = tuple[Any, ...]

OrderQueueStatus = Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"]

_SELECT_STREAMS = load_sql(__package__, "select_order_streams")
_SELECT_CREATIONS = load_sql(__package__, "select_order_creations")


class _Creation(msgspec.Struct):
    """What of a creation any code can read, newer than this or not."""

    order_unique_key: str


_creations = msgspec.json.Decoder(_Creation)


class OrderView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order with its slices."""

    order_id: UUID
    order_unique_key: str
    instrument: str
    side: str
    total_quantity: int
    split_config: SplitConfig
    order_queue_status: OrderQueueStatus
    failure_reason: str | None
    failure_message: str | None
    version: int
    position: int
    placed_by: str
    created_at: datetime
    updated_at: datetime
    split_completed_at: datetime | None
    claimed_by: str | None
    claimed_at: datetime | None
    slices: tuple[Slice, ...]


class OrderReader:
    """Reads orders from the log itself, so an accepted order is there at once.

    Those that are asked for at the same time are read in one query.
    """

    def __init__(self, database: Database, mapper: EventMapper) -> None:
        self.database = database
        self._mapper = mapper
        self._streams = BatchLoader(self._select_streams)
        self._keys = BatchLoader(self._select_keys)

    async def key_of(self, order_id: UUID) -> str:
        """The key the order was placed under; empty if there is no order, or no key can be read.

        Its cost depends neither on whether there is an order nor on what became of it.
        """
        return await self._keys.get(order_id) or ""

    async def as_created(self, order_id: UUID) -> Order | None:
        """The order as its creation tells it, whatever came after; None if there is none."""
        records, _, _ = await self._select(order_id)
        return self._fold(records[:1])

    async def view(self, order_id: UUID) -> OrderView | None:
        """The order with its claim, or None."""
        records, claimed_by, claimed_at = await self._select(order_id)
        order = self._fold(records)
        if order is None:
            return None
        return _view(order, records[-1].position, claimed_by, claimed_at)

    def _fold(self, records: Sequence[RecordedEvent]) -> Order | None:
        return fold(self._mapper.events_of(records))

    async def _select(
        self, order_id: UUID
    ) -> tuple[list[RecordedEvent], str | None, datetime | None]:
        rows = await self._streams.get(order_id) or []
        claimed_by, claimed_at = rows[-1][6:8] if rows else (None, None)
        return [RecordedEvent.from_row(row[:6]) for row in rows], claimed_by, claimed_at

    async def _select_streams(self, order_ids: list[UUID]) -> dict[UUID, list[Row]]:
        rows = await self.database.read(lambda connection: _rows(connection, order_ids))
        return {order_id: list(stream) for order_id, stream in groupby(rows, key=itemgetter(1))}

    async def _select_keys(self, order_ids: list[UUID]) -> dict[UUID, str]:
        rows = await self.database.read(
            lambda connection: _rows(connection, order_ids, _SELECT_CREATIONS)
        )
        return {order_id: _key_in(state or _NO_CREATION) for order_id, state in rows}


_NO_CREATION: Final = b'{"filler":"%b","order_unique_key":""}' % (b"x" * 512)
"""What is decoded where there is no order, so that it takes as long as where there is one."""


def _key_in(state: bytes) -> str:
    try:
        return _creations.decode(state).order_unique_key
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


async def _rows(
    connection: Connection, order_ids: list[UUID], statement: LiteralString = _SELECT_STREAMS
) -> list[Row]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, (order_ids,), prepare=True)
    return await cursor.fetchall()


def _view(
    order: Order, position: int, claimed_by: str | None, claimed_at: datetime | None
) -> OrderView:
    in_progress = order.state == "PENDING" and claimed_by is not None
    return OrderView(
        order_id=order.id,
        **msgspec.structs.asdict(order.spec),
        order_queue_status="IN_PROGRESS" if in_progress else order.state,
        failure_reason=order.failure_reason,
        failure_message=order.failure_message,
        version=order.version,
        position=position,
        placed_by=order.placed_by,
        created_at=order.created_at,
        updated_at=order.updated_at,
        split_completed_at=order.updated_at if order.state == "COMPLETED" else None,
        claimed_by=claimed_by if in_progress else None,
        claimed_at=claimed_at if in_progress else None,
        slices=order.slices,
    )
