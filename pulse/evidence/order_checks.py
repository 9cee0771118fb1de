"""Checks of one stream of the log: versions, ids, the fold, the schedule, and the stored bytes.

The schedule is derived again from the order's creation (its seed and splitter version), compared,
and checked by every rule of `SCHEDULE_RULES`. A history that was replaced as a whole by another
valid one passes these checks.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Final
from uuid import UUID

import msgspec
import structlog

from pulse.domain import (
    HALTS_STREAM_ID,
    BrokenRule,
    Event,
    Halts,
    HistoryBroken,
    Order,
    OrderCreated,
    OrderRefused,
    Slice,
    SlicesScheduled,
    SplitterUnknown,
    broken_rules,
    evolve,
    evolve_halts,
    order_id_for,
    require_possible_sessions,
    require_valid_order,
    split,
    splitter_version_for,
)
from pulse.eventstore import EventMapper, EventTooNew, EventUnreadable, RecordedEvent
from pulse.evidence.findings import Fault, Finding

_log = structlog.get_logger(__name__)

_UTC_OFFSET: Final = timedelta(0)


class CheckedStream(msgspec.Struct, frozen=True):
    """What the checks of a stream found.

    `events` are Pulse's events of the stream with their positions, and `order` is their fold; None
    if the stream is not that of an order or a finding prevents the fold. `slices` counts those of
    a schedule that was derived again; None without one.
    """

    findings: tuple[Finding, ...]
    events: tuple[tuple[int, Event], ...]
    order: Order | None
    slices: int | None


def check_stream(mapper: EventMapper, records: Sequence[RecordedEvent]) -> CheckedStream:
    """Check a whole stream, given in any order. Events of other programs are skipped."""
    return _StreamCheck(mapper, records).result()


def fault_of_creation(created: OrderCreated) -> tuple[Fault, str] | None:
    """Why Pulse cannot have accepted this order: the event may be altered. None if it can have."""
    if created.originator_id != order_id_for(created.key_scope, created.order_unique_key):
        return "WRONG_ID", "its id is not derived from its key"
    if created.timestamp.utcoffset() != _UTC_OFFSET:
        return "NEVER_ACCEPTED", "its time is not in UTC"
    if created.splitter_version < 1:
        return (
            "NEVER_ACCEPTED",
            f"there was never a splitter version {created.splitter_version}",
        )
    try:
        require_valid_order(created.spec)
    except OrderRefused as refusal:
        return "NEVER_ACCEPTED", f"Pulse never accepted such an order: {refusal}"
    fault = _fault_of_window(created)
    return None if fault is None else ("NEVER_ACCEPTED", fault)


def _fault_of_window(created: OrderCreated) -> str | None:  # noqa: PLR0911 - one for each fault
    sessions, policy = created.sessions, created.applied_policy
    times = [created.window_starts_at, *chain.from_iterable(sessions)]
    if any(time.utcoffset() != _UTC_OFFSET for time in times):
        return "a time of its window is not in UTC"
    if policy != (created.session_policy or policy):
        return f"{created.session_policy} was asked for and {policy} applied"
    if bool(sessions) != (policy != "NONE") or bool(sessions) != bool(created.calendar_digest):
        return f"its trading sessions do not belong to the policy {policy}"
    if splitter_version_for(created.trading_sessions) > created.splitter_version:
        return "its splitter version does not know trading sessions"
    asked = created.timestamp if created.start_at is None else created.start_at
    moved = created.window_starts_at != asked
    if moved and (not sessions or created.window_starts_at != max(asked, sessions[0][0])):
        return "its window does not start at the time that its terms give"
    if sessions:
        try:
            require_possible_sessions(created.terms)
        except HistoryBroken as error:
            return str(error)
    return None


class _StreamCheck:
    """The check of one stream."""

    def __init__(self, mapper: EventMapper, records: Sequence[RecordedEvent]) -> None:
        self._mapper = mapper
        by_version = sorted(records, key=lambda record: record.originator_version)
        self._records = by_version
        self._findings: list[Finding] = []
        self._events: list[tuple[int, Event]] = []
        self._order: Order | None = None
        self._halts = Halts()
        self._slices: int | None = None

    def result(self) -> CheckedStream:
        own = [record for record in self._records if self._mapper.owns(record.topic)]
        if own:
            self._check_versions()
            try:
                self._check_events(own)
            except Exception as error:  # noqa: BLE001 - one order must not hide other findings
                _log.error("verification.crashed", stream=str(own[0].originator_id), exc_info=error)
                self._add_finding(own[0], "UNREADABLE", type(error).__name__)
        folded = len(self._events) == len(own)
        return CheckedStream(
            findings=tuple(self._findings),
            events=tuple(self._events) if folded else (),
            order=self._order if folded else None,
            slices=self._slices,
        )

    def _check_versions(self) -> None:
        """Versions count from 1 without gaps, and ascend with the positions."""
        before: RecordedEvent | None = None
        for version, record in enumerate(self._records, 1):
            if record.originator_version != version:
                self._add_finding(
                    record,
                    "VERSIONS",
                    f"version {version} is missing: version {record.originator_version} follows "
                    + (f"version {version - 1}" if before else "nothing"),
                )
                return
            if before is not None and record.position < before.position:
                self._add_finding(
                    record,
                    "VERSIONS",
                    f"version {version} is before version {version - 1}, which is at position "
                    f"{before.position}",
                )
                return
            before = record

    def _check_events(self, own: Sequence[RecordedEvent]) -> None:
        """Check each event, up to the first that cannot be applied."""
        for record in own:
            try:
                event = self._mapper.event_of(record)
                fault = self._apply(record, event)
            except (EventTooNew, SplitterUnknown) as error:
                fault = "NEWER_CODE", str(error)
            except EventUnreadable as error:
                fault = "UNREADABLE", str(error)
            except HistoryBroken as error:
                fault = "CANNOT_FOLLOW", str(error)
            if fault is not None:
                self._add_finding(record, *fault)
                return
            self._check_bytes(record, event)
            self._events.append((record.position, event))

    def _apply(self, record: RecordedEvent, event: Event) -> tuple[Fault, str] | None:
        """Add the event to the fold.

        Raises:
            HistoryBroken: the event cannot follow.
            SplitterUnknown: only newer code can derive the schedule.
        """
        if record.originator_id == HALTS_STREAM_ID:
            self._halts = evolve_halts(self._halts, event)
            return None
        if isinstance(event, OrderCreated) and (fault := fault_of_creation(event)):
            return fault
        before, self._order = self._order, evolve(self._order, event)
        if before is not None and isinstance(event, SlicesScheduled):
            self._check_schedule(record, before, event)
        return None

    def _check_schedule(
        self, record: RecordedEvent, order: Order, scheduled: SlicesScheduled
    ) -> None:
        derived = split(order.terms, order.splitter_version)
        self._slices = len(scheduled.slices)
        broken = broken_rules(order.terms, scheduled.slices)
        if difference := _first_difference(order, scheduled, derived):
            self._add_finding(record, "SCHEDULE", difference, broken)
        elif broken:
            self._add_finding(record, "RULE", f"{broken[0].rule}: {broken[0].breach}", broken)

    def _check_bytes(self, record: RecordedEvent, event: Event) -> None:
        written = self._mapper.state_as_stored(event, record)
        if written == record.state:
            return
        place = next(_differing(written, record.state), min(len(written), len(record.state)))
        self._add_finding(
            record,
            "ENCODING",
            f"the stored bytes of {type(event).__name__} at version {record.originator_version} "
            f"are not those that Pulse writes for its content, from byte {place + 1} on",
        )

    def _add_finding(
        self,
        record: RecordedEvent,
        fault: Fault,
        detail: str,
        broken: tuple[BrokenRule, ...] = (),
    ) -> None:
        order_id: UUID | None = record.originator_id
        if order_id == HALTS_STREAM_ID:
            order_id = None
        self._findings.append(Finding(fault, detail, record.position, order_id, broken))


def _differing(one: bytes, other: bytes) -> Iterator[int]:
    pairs = enumerate(zip(one, other, strict=False))
    return (place for place, (a, b) in pairs if a != b)


def _first_difference(
    order: Order, scheduled: SlicesScheduled, derived: Sequence[Slice]
) -> str | None:
    """The first difference between stored and derived schedule, or None."""
    stored = scheduled.slices
    for one, other in zip(stored, derived, strict=False):
        if one != other:
            number = other.sequence_number
            return f"slice {number} is stored as {_slice_text(one)}, derived {_slice_text(other)}"
    if len(stored) != len(derived):
        return f"{len(stored)} slices are stored, {len(derived)} derived"
    if scheduled.splitter_version != order.splitter_version:
        return (
            f"stored with splitter version {scheduled.splitter_version}, "
            f"but the creation has {order.splitter_version}"
        )
    return None


def _slice_text(s: Slice) -> str:
    at = msgspec.to_builtins(s.scheduled_at)
    return f"number {s.sequence_number}, {s.quantity} shares at {at}"
