"""The auditor's proof: every stored schedule derived again and compared, byte for byte.

Reads the log alone and writes nothing. What it holds against each schedule is the order's own
creation (its seed, its splitter version) and every rule of `SCHEDULE_RULES`. What was taken out of
the log, or put in place of a whole history, it cannot see.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from operator import attrgetter
from typing import Final, Literal
from uuid import UUID

import msgspec
import structlog

from pulse.application.acceptance import require_accepted
from pulse.application.orders import OrderNotFound
from pulse.domain import (
    BrokenRule,
    Event,
    HistoryBroken,
    OrderCreated,
    Slice,
    SlicesScheduled,
    SplitterUnknown,
    broken_rules,
    fold,
    split,
)
from pulse.eventstore import EventMapper, EventStore, EventTooNew, EventUnreadable, RecordedEvent

_log = structlog.get_logger(__name__)

PAGE: Final = 500
_BEFORE_EVERY_POSITION: Final = -(2**63)

Fault = Literal["DIFFERS", "BREAKS_RULE", "UNREADABLE", "NEWER_CODE"]
"""What can be wrong with a stored schedule. NEWER_CODE is no fault of it: nothing was proved."""


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with one order's schedule; `position` is that of its event in the log."""

    order_id: UUID
    position: int
    fault: Fault
    detail: str
    broken_rules: tuple[BrokenRule, ...] = ()


class Verified(msgspec.Struct, frozen=True):
    """A stretch of the log that was looked through: it ends at `position` of `end`.

    `slices` counts those of the schedules that could be derived.
    """

    position: int
    end: int
    schedules: int
    slices: int
    findings: tuple[Finding, ...]


class ScheduleVerification:
    """Derives stored schedules again."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def every_schedule(self) -> AsyncIterator[Verified]:
        """The whole log, stretch by stretch, up to where it ended when this began.

        Raises:
            DatabaseUnavailable: it cannot be read.
        """
        end = await self._store.end()
        position = _BEFORE_EVERY_POSITION
        while position < end:
            page = await self._store.read_log_page(
                after=position, limit=PAGE, topic=SlicesScheduled.TOPIC
            )
            if page.next_after == position:
                return
            position = min(page.next_after, end)
            scheduled = [record for record in page.records if record.position <= end]
            yield await self._verified(scheduled, position, end)

    async def of_order(self, order_id: UUID) -> Verified:
        """One order, whose schedule may not exist.

        Raises:
            OrderNotFound: there is no such order.
            DatabaseUnavailable: it cannot be read.
        """
        stream = await self._store.read_stream(order_id)
        if not stream:
            raise OrderNotFound(str(order_id))
        scheduled = [record for record in stream if record.topic == SlicesScheduled.TOPIC]
        end = stream[-1].position
        return await self._verified(scheduled, end, end)

    async def _verified(
        self, scheduled: Sequence[RecordedEvent], position: int, end: int
    ) -> Verified:
        streams = await self._store.read_streams([record.originator_id for record in scheduled])
        slices = 0
        findings: list[Finding] = []
        for record in sorted(scheduled, key=attrgetter("position")):
            try:
                finding, count = _look(self._store.mapper, streams[record.originator_id], record)
            except (EventTooNew, SplitterUnknown) as error:
                finding, count = _finding(record, "NEWER_CODE", str(error)), 0
            except (EventUnreadable, HistoryBroken) as error:
                finding, count = _finding(record, "UNREADABLE", str(error)), 0
            except Exception as error:  # noqa: BLE001 - one altered order must not hide the others
                _log.exception("verification.crashed", order_id=str(record.originator_id))
                finding, count = _finding(record, "UNREADABLE", f"{type(error).__name__}"), 0
            slices += count
            findings += [finding] if finding is not None else []
        return Verified(position, end, len(scheduled), slices, tuple(findings))


def _look(
    mapper: EventMapper, stream: Sequence[RecordedEvent], record: RecordedEvent
) -> tuple[Finding | None, int]:
    """What is wrong with this schedule, if anything, and how many slices it has."""
    created, scheduled = _creation_and_schedule(mapper.events_of(stream))
    derived = split(created.terms, created.splitter_version)
    broken = broken_rules(created.terms, scheduled.slices)
    difference = _first_difference(created, scheduled, derived) or _first_altered_byte(
        mapper, (created, scheduled), stream
    )
    if difference is not None:
        return _finding(record, "DIFFERS", difference, broken), len(scheduled.slices)
    if broken:
        told = f"{broken[0].rule}: {broken[0].breach}"
        return _finding(record, "BREAKS_RULE", told, broken), len(scheduled.slices)
    return None, len(scheduled.slices)


def _creation_and_schedule(events: Iterable[Event]) -> tuple[OrderCreated, SlicesScheduled]:
    """The two events of a COMPLETED order.

    Raises:
        HistoryBroken: they do not follow each other, or the creation is not one that Pulse takes.
    """
    history = tuple(events)
    for event in history[:1]:
        if isinstance(event, OrderCreated):
            require_accepted(event)
    fold(history)
    match history:
        case (OrderCreated() as created, SlicesScheduled() as scheduled):
            return created, scheduled
        case _:
            raise HistoryBroken("the order has a schedule and no creation before it")


def _first_difference(
    created: OrderCreated, scheduled: SlicesScheduled, derived: Sequence[Slice]
) -> str | None:
    """The first slice that is not as it is derived; None where every one is."""
    stored = scheduled.slices
    for one, other in zip(stored, derived, strict=False):
        if one != other:
            number = other.sequence_number
            return f"slice {number} is stored as {_told(one)}, derived {_told(other)}"
    if len(stored) != len(derived):
        return f"{len(stored)} slices are stored, {len(derived)} derived"
    if scheduled.splitter_version != created.splitter_version:
        return (
            f"stored as of splitter version {scheduled.splitter_version}, "
            f"the creation asks for {created.splitter_version}"
        )
    return None


def _first_altered_byte(
    mapper: EventMapper, events: Iterable[Event], stream: Sequence[RecordedEvent]
) -> str | None:
    """The first byte that is not as Pulse writes the two events; None where every one is."""
    own = [record for record in stream if mapper.owns(record.topic)]
    for event, record in zip(events, own, strict=True):
        written = mapper.to_stored_event(event).state
        if written != record.state:
            pairs = enumerate(zip(written, record.state, strict=False))
            place = next((i for i, (one, other) in pairs if one != other), len(written))
            return (
                f"every slice is as derived, but {type(event).__name__} is stored in other bytes "
                f"than it is written in, from byte {place + 1} on"
            )
    return None


def _told(s: Slice) -> str:
    at = msgspec.to_builtins(s.scheduled_at)
    return f"number {s.sequence_number}, {s.quantity} shares at {at}"


def _finding(
    record: RecordedEvent, fault: Fault, detail: str, broken: tuple[BrokenRule, ...] = ()
) -> Finding:
    return Finding(record.originator_id, record.position, fault, detail, broken)
