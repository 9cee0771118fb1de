"""Reads the content of a pack from the database: events with their sealed entries, and tiles."""

import asyncio
from array import array
from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from itertools import accumulate
from typing import Final
from uuid import UUID

import msgspec

from pulse.domain import HALTS_STREAM_ID
from pulse.eventstore import (
    AFTER_LOG,
    RecordedEvent,
    read_window_end,
    select_streams,
    select_streams_begun,
)
from pulse.evidence.pack.members import MAX_TOPIC_BYTES, parse_entry
from pulse.evidence.pack.writer import (
    Bounds,
    PackRefused,
    PackRequest,
    SealedEvent,
    differs,
)
from pulse.evidence.state import TreeDamaged
from pulse.evidence.tiles import TileId, decode_bundle
from pulse.evidence.tree import find_leaf, read_published, read_tile
from pulse.evidence.verification import NoSuchOrder
from pulse.postgres import Connection, fetch, load_sql
from pulse.projections.queue_history import QueueHistory
from pulse.rfc3339 import format_time

_SELECT_PLACES: Final = load_sql(__package__, "select_rows_of_positions")
_SELECT_ROWS: Final = load_sql(__package__, "select_rows_of_leaves")
_WINDOW_EVENTS: Final = 2_000
_LENGTH_BYTES: Final = 2
_CACHED_ROWS: Final = 1_024
"""How many rows stay in the cache: about 70 MiB, if each has 256 entries of Pulse's events."""
SEAL_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.2
_MICROSECOND: Final = timedelta(microseconds=1)


class PackSource:
    """Reads from the log and the seal over one connection.

    Every method raises psycopg.Error if a read fails, and TreeDamaged if the seal was tampered
    with. `history` has connections of its own: if it cannot be read, `bounds` raises
    DatabaseUnavailable.
    """

    def __init__(self, connection: Connection, history: QueueHistory) -> None:
        self._connection = connection
        self._history = history
        self._rows: OrderedDict[int, _Row] = OrderedDict()

    async def bounds(self, request: PackRequest) -> Bounds:
        """The positions that a request selects.

        Raises:
            NoSuchOrder: no order has this id.
            PackRefused: the period is empty, has no event, or ends in the future.
            HistoryIncomplete: too many events of the log are not summed up yet.
        """
        if request.order_id is not None:
            stream = await select_streams(self._connection, [request.order_id], position=AFTER_LOG)
            if not stream or request.order_id == HALTS_STREAM_ID:
                raise NoSuchOrder(f"no order has the id {request.order_id}")
            return Bounds(0, stream[-1].position, request.order_id)
        start, before = request.recorded_from, request.recorded_before
        if start is None or before is None:
            raise PackRefused("a pack is of an order, or of a period with a start and an end")
        if start >= before:
            raise PackRefused("the period is empty: its start must be before its end")
        until, now = await self._history.position_at(before - _MICROSECOND)
        if before > now:
            raise PackRefused(f"the period ends in the future: it is {format_time(now)}")
        after = 0
        with suppress(OverflowError):
            after, _ = await self._history.position_at(start - _MICROSECOND)
        if after >= until:
            raise PackRefused("no event was recorded in this period")
        return Bounds(after, until, None)

    async def following(self, position: int) -> int | None:
        """The position of the first event after this one; None if there is none."""
        return await read_window_end(self._connection, after=position, events=1)

    async def wait_for_checkpoint(self, position: int, seconds: float | None = None) -> str:
        """The latest checkpoint, as soon as it includes this position.

        Waits for at most `seconds`, by default 15.

        Raises:
            NothingSealed: the log is not sealed.
            PackRefused: the position is not sealed in time.
        """
        sealed = 0
        for _ in range(int((seconds or SEAL_SECONDS) / _POLL_SECONDS)):
            note, size, sealed = await read_published(self._connection)
            index = await find_leaf(self._connection, position)
            if index is not None and index < size:
                return note
            if index is None and sealed >= position:
                raise differs(f"position {position} is not in the seal")
            await asyncio.sleep(_POLL_SECONDS)
        raise PackRefused(
            f"the last selected event, at position {position}, is not sealed yet: the seal is at "
            f"position {sealed}; export again when a process that seals has caught up"
        )

    async def streams(self, bounds: Bounds) -> AsyncIterator[tuple[int, list[list[SealedEvent]]]]:
        """The streams that have selected events, in the order of their first selected events.

        Yields how far the log was read, and some streams, each from its beginning up to `until`.

        Raises:
            PackRefused: an event is not the one that was sealed.
        """
        if bounds.order_id is not None:
            records = await select_streams(
                self._connection, [bounds.order_id], position=bounds.until
            )
            yield bounds.until, [await self._sealed(records)]
            return
        position = bounds.after
        while position < bounds.until:
            end = await read_window_end(self._connection, after=position, events=_WINDOW_EVENTS)
            end = bounds.until if end is None else min(end, bounds.until)
            records = await select_streams_begun(
                self._connection,
                after=position,
                until=end,
                position=bounds.until,
                since=bounds.after,
            )
            by_stream: dict[UUID, list[SealedEvent]] = defaultdict(list)
            for sealed in await self._sealed(records):
                by_stream[sealed.record.originator_id].append(sealed)
            yield end, sorted(by_stream.values(), key=lambda s: _first_after(s, bounds.after))
            position = end

    async def entry(self, index: int, size: int) -> bytes | None:
        """The entry of a leaf, None if the tree of this size does not have it."""
        if not 0 <= index < size:
            return None
        offset = index % 256
        bundle = await read_tile(self._connection, TileId(None, index // 256, offset + 1))
        return decode_bundle(bundle)[offset]

    async def tile(self, tile: TileId) -> bytes:
        """The bytes of a tile."""
        return await read_tile(self._connection, tile)

    async def _sealed(self, records: list[RecordedEvent]) -> list[SealedEvent]:
        leaves = await self._leaves([record.position for record in records])
        return [_require_same(record, leaves.get(record.position)) for record in records]

    async def _leaves(self, positions: list[int]) -> dict[int, tuple[int, bytes]]:
        """The leaf and the entry of each position that is sealed."""
        places = await fetch(self._connection, _SELECT_PLACES, (positions,))
        if missing := {first for _, first in places} - self._rows.keys():
            for first, bundle in await fetch(self._connection, _SELECT_ROWS, (sorted(missing),)):
                self._rows[first] = _Row(first, bundle)
        leaves = {}
        for position, first in places:
            self._rows.move_to_end(first)
            if leaf := self._rows[first].leaf_of(position):
                leaves[position] = leaf
        while len(self._rows) > _CACHED_ROWS:
            self._rows.popitem(last=False)
        return leaves


class _Row:
    """A row of entries, encoded as it is stored: decoded entries would need more memory."""

    def __init__(self, first_index: int, bundle: bytes) -> None:
        try:
            entries = decode_bundle(bundle)
        except ValueError as error:
            raise TreeDamaged(f"a row of the seal's entries is malformed: {error}") from error
        self._first_index = first_index
        self._bundle = bundle
        self._positions = array("q", map(_position_of, entries))
        ends = accumulate(_LENGTH_BYTES + len(entry) for entry in entries)
        self._begins = array("q", (0, *ends))

    def leaf_of(self, position: int) -> tuple[int, bytes] | None:
        offset = bisect_left(self._positions, position)
        if offset == len(self._positions) or self._positions[offset] != position:
            return None
        begin, end = self._begins[offset : offset + 2]
        return self._first_index + offset, self._bundle[begin + _LENGTH_BYTES : end]


def _first_after(stream: list[SealedEvent], after: int) -> int:
    return next(event.index for event in stream if event.record.position > after)


def _require_same(record: RecordedEvent, leaf: tuple[int, bytes] | None) -> SealedEvent:
    """The event with its leaf.

    Raises:
        PackRefused: the entry is not the one of this event.
    """
    if leaf is None:
        raise differs(f"position {record.position} was not sealed")
    index, entry = leaf
    try:
        sealed = parse_entry(entry)
    except (msgspec.MsgspecError, ValueError) as error:
        raise TreeDamaged(f"the entry of position {record.position} is malformed") from error
    topic = record.topic
    if len(topic.encode()) > MAX_TOPIC_BYTES:
        topic = f"sha256:{sha256(topic.encode()).hexdigest()}"
    found = (
        record.originator_id,
        record.originator_version,
        topic,
        record.recorded_at,
        sha256(record.state).hexdigest(),
    )
    if found != msgspec.structs.astuple(sealed)[1:]:
        raise differs(f"the event at position {record.position} was altered")
    return SealedEvent(record, index, entry)


def _position_of(entry: bytes) -> int:
    begin = b'{"position":'
    try:
        return int(entry[len(begin) : entry.index(b",")])
    except ValueError:
        raise TreeDamaged("an entry of the seal is malformed") from None
