"""The auditor's proof: every stored schedule derived again and compared, byte for byte.

Reads the log alone and writes nothing. What it holds against each schedule is the order's own
creation (its seed, its splitter version) and every rule of `SCHEDULE_RULES`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Literal
from uuid import UUID

import msgspec

from pulse.application.orders import OrderNotFound
from pulse.domain import (
    Event,
    HistoryBroken,
    OrderCreated,
    OrderRefused,
    OrderRequest,
    Slice,
    SlicesScheduled,
    SplitterUnknown,
    broken_rules,
    fold,
    parse_order_request,
    split,
)
from pulse.eventstore import EventStore, EventTooNew, EventUnreadable, RecordedEvent

PAGE: Final = 500

Fault = Literal["DIFFERS", "BREAKS_RULE", "UNREADABLE", "NEWER_CODE"]
"""What can be wrong with a stored schedule. NEWER_CODE is no fault of it: nothing was proved."""


class Finding(msgspec.Struct, frozen=True):
    """Something to say about one order's schedule; `position` is that of its event in the log."""

    order_id: UUID
    position: int
    fault: Fault
    detail: str


class Verified(msgspec.Struct, frozen=True):
    """A stretch of the log that was looked through: it ends at `position` of `end`."""

    position: int
    end: int
    orders: int
    slices: int
    findings: tuple[Finding, ...]


class ScheduleVerification:
    """Derives stored schedules again."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def every_order(self) -> AsyncIterator[Verified]:
        """The whole log, stretch by stretch, up to where it ended when this began.

        Raises:
            DatabaseUnavailable: it cannot be read.
        """
        end = await self._store.end()
        position = 0
        while position < end:
            page = await self._store.read_log_page(
                after=position, limit=PAGE, topic=SlicesScheduled.TOPIC
            )
            scheduled = [record for record in page.records if record.position <= end]
            streams = await self._store.read_streams([r.originator_id for r in scheduled])
            position = min(page.next_after, end)
            yield self._verified(list(streams.values()), position, end)

    async def of_order(self, order_id: UUID) -> Verified:
        """One order.

        Raises:
            OrderNotFound: there is none.
            DatabaseUnavailable: it cannot be read.
        """
        stream = await self._store.read_stream(order_id)
        if not stream:
            raise OrderNotFound(str(order_id))
        end = stream[-1].position
        scheduled = [tuple(stream)] if any(map(_is_schedule, stream)) else []
        return self._verified(scheduled, end, end)

    def _verified(
        self, streams: Sequence[Sequence[RecordedEvent]], position: int, end: int
    ) -> Verified:
        slices = 0
        findings: list[Finding] = []
        for stream in streams:
            record = next(filter(_is_schedule, stream))
            try:
                found, count = self._look(stream, record)
            except (EventUnreadable, HistoryBroken, ValueError, OverflowError) as error:
                found, count = [_finding(record, "UNREADABLE", str(error))], 0
            except (EventTooNew, SplitterUnknown) as error:
                found, count = [_finding(record, "NEWER_CODE", str(error))], 0
            findings += found
            slices += count
        return Verified(position, end, len(streams), slices, tuple(findings))

    def _look(
        self, stream: Sequence[RecordedEvent], record: RecordedEvent
    ) -> tuple[list[Finding], int]:
        """What is wrong with this schedule, and how many slices it has."""
        created, scheduled = _creation_and_schedule(self._store.mapper.events_of(stream))
        derived = split(created.terms, created.splitter_version)
        found = [
            _finding(record, "BREAKS_RULE", f"{b.rule}: {b.breach}")
            for b in broken_rules(created.terms, scheduled.slices)
        ]
        difference = _first_difference(created, scheduled, derived, record.state)
        if difference is not None:
            found.insert(0, _finding(record, "DIFFERS", difference))
        return found, len(scheduled.slices)


class _AsStored(msgspec.Struct):
    """The slices of a stored event, as they were written."""

    slices: msgspec.Raw


def _creation_and_schedule(events: Iterable[Event]) -> tuple[OrderCreated, SlicesScheduled]:
    """The two events of a COMPLETED order.

    Raises:
        HistoryBroken: they do not follow each other, or the creation is not one that Pulse takes.
    """
    history = tuple(events)
    fold(history)
    match history:
        case (OrderCreated() as created, SlicesScheduled() as scheduled):
            _require_accepted(created)
            return created, scheduled
        case _:
            raise HistoryBroken("the order has a schedule and no creation before it")


def _require_accepted(created: OrderCreated) -> None:
    """A creation altered to a billion slices must not keep an auditor busy for ever."""
    config = {
        "num_splits": created.num_splits,
        "duration_minutes": created.duration_minutes,
        "randomize": created.randomize,
    }
    try:
        parse_order_request(
            OrderRequest(
                order_unique_key=created.order_unique_key,
                instrument=created.instrument,
                side=created.side,
                total_quantity=created.total_quantity,
                split_config=config,
            )
        )
    except OrderRefused as refusal:
        raise HistoryBroken(f"no such order was ever accepted: {refusal}") from None


def _first_difference(
    created: OrderCreated, scheduled: SlicesScheduled, derived: Sequence[Slice], state: bytes
) -> str | None:
    """The first thing that is not as it is derived; None where every byte of the slices is."""
    stored = scheduled.slices
    for one, other in zip(stored, derived, strict=False):
        if one != other:
            return (
                f"slice {other.sequence_number} is stored as {_told(one)}, derived {_told(other)}"
            )
    if len(stored) != len(derived):
        return f"{len(stored)} slices are stored, {len(derived)} derived"
    if scheduled.splitter_version != created.splitter_version:
        return (
            f"stored as of splitter version {scheduled.splitter_version}, "
            f"the creation asks for {created.splitter_version}"
        )
    if bytes(msgspec.json.decode(state, type=_AsStored).slices) != msgspec.json.encode(derived):
        return "every slice is as derived, but written in other bytes"
    return None


def _told(s: Slice) -> str:
    at = msgspec.json.encode(s.scheduled_at).decode().strip('"')
    return f"number {s.sequence_number}, {s.quantity} shares at {at}"


def _is_schedule(record: RecordedEvent) -> bool:
    return record.topic == SlicesScheduled.TOPIC


def _finding(record: RecordedEvent, fault: Fault, detail: str) -> Finding:
    return Finding(record.originator_id, record.position, fault, detail)
