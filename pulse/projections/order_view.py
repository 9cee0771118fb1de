"""One order as answered: read from its stream, with its claim laid over."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from pulse.domain import Order, Slice, SplitConfig, fold
from pulse.domain.events import flat_fields
from pulse.eventstore import EventMapper, RecordedEvent
from pulse.postgres import BatchLoader, Database, fetch, load_sql

Row = tuple[Any, ...]

OrderQueueStatus = Literal["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"]

_SELECT_STREAMS = load_sql(__package__, "select_order_streams")
_SELECT_CREATIONS = load_sql(__package__, "select_order_creations")
_NO_CREATION: Final = b'{"filler":"%b","order_unique_key":""}' % (b"x" * 512)
"""What is decoded where there is no order, so that it takes as long as where there is one."""


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


_CONFIG: Final = SplitConfig.__struct_fields__
_AS_THEY_ARE: Final = tuple(
    field
    for field in OrderView.__struct_fields__
    if field not in {"split_config", "order_queue_status", "claimed_by", "claimed_at", "slices"}
)


def order_view(row: Mapping[str, Any], slices: tuple[Slice, ...]) -> OrderView:
    """The order of a row of `order_queue` with its claim's holder and time, null where free."""
    in_progress = row["state"] == "PENDING" and row["claimed_by"] is not None
    return OrderView(
        **{field: row[field] for field in _AS_THEY_ARE},
        split_config=SplitConfig(*[row[field] for field in _CONFIG]),
        order_queue_status="IN_PROGRESS" if in_progress else row["state"],
        claimed_by=row["claimed_by"] if in_progress else None,
        claimed_at=row["claimed_at"] if in_progress else None,
        slices=slices,
    )


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
        rows = await self._streams.get(order_id) or []
        return self._fold(rows[:1])

    async def view(self, order_id: UUID) -> OrderView | None:
        """The order with its claim, or None."""
        rows = await self._streams.get(order_id) or []
        order = self._fold(rows)
        if order is None:
            return None
        row = msgspec.structs.asdict(order) | flat_fields(order.spec)
        position, claimed_by, claimed_at = rows[-1][0], *rows[-1][6:8]
        row |= {"order_id": order.id, "position": position, "claimed_by": claimed_by}
        row["claimed_at"] = claimed_at
        row["split_completed_at"] = order.updated_at if order.state == "COMPLETED" else None
        return order_view(row, order.slices)

    def _fold(self, rows: Sequence[Row]) -> Order | None:
        return fold(self._mapper.events_of([RecordedEvent.from_row(row[:6]) for row in rows]))

    async def _select_streams(self, order_ids: list[UUID]) -> dict[UUID, list[Row]]:
        rows = await self.database.read(
            lambda connection: fetch(connection, _SELECT_STREAMS, (order_ids,))
        )
        return {order_id: list(stream) for order_id, stream in groupby(rows, key=itemgetter(1))}

    async def _select_keys(self, order_ids: list[UUID]) -> dict[UUID, str]:
        rows = await self.database.read(
            lambda connection: fetch(connection, _SELECT_CREATIONS, (order_ids,))
        )
        return {order_id: _key_in(state or _NO_CREATION) for order_id, state in rows}


def _key_in(state: bytes) -> str:
    try:
        return _creations.decode(state).order_unique_key
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
