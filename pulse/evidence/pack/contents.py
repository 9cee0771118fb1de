"""What is computed from the events of a pack: counts, findings, and every schedule's derivation.

Export and verification both read the events of the pack itself and compute this from them.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from pulse.domain import OrderCreated, Slice, SlicesScheduled, SliceState
from pulse.eventstore import EventMapper, EventTooNew, EventUnreadable
from pulse.evidence.findings import Finding
from pulse.evidence.order_checks import CheckedStream, check_stream
from pulse.evidence.pack.archive import Archive, PackInvalid
from pulse.evidence.pack.members import (
    EVENTS,
    MAX_LINE_BYTES,
    MAX_STREAM_BYTES,
    PackedEvent,
    parse_line,
    part_of,
)

MAX_DRAWN: Final = 50
"""The summary draws the schedules of this many orders, the first ones."""

MAX_KEPT_FINDINGS: Final = 1_000

Stream = list[PackedEvent]


class Drawn(msgspec.Struct, frozen=True):
    """An order whose schedule the summary draws."""

    created: OrderCreated
    slices: tuple[Slice, ...]
    states: tuple[SliceState, ...]


class Derivation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the schedule at this position was derived from.

    `matches` is whether the splitter derives the stored schedule from it again.
    """

    position: int
    order_id: UUID
    total_quantity: int
    num_splits: int
    duration_minutes: int
    randomize: bool
    window_starts_at: datetime
    split_seed: str
    splitter_version: int
    applied_policy: str
    calendar_digest: str | None
    sessions: tuple[tuple[datetime, datetime], ...]
    matches: bool


class Contents:
    """Totals of streams, added in the order of the pack.

    Keeps the first findings and schedules only: `MAX_KEPT_FINDINGS` and `MAX_DRAWN`.
    """

    def __init__(self, mapper: EventMapper) -> None:
        self.events = self.streams = self.orders = self.schedules = self.slices = 0
        self.types: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.code_versions: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.drawn: list[Drawn] = []
        self.first_recorded_at: datetime | None = None
        self.last_recorded_at: datetime | None = None
        self._mapper = mapper

    def add_findings(self, *findings: Finding) -> None:
        """Count these findings, and keep the first ones."""
        self.faults.update(finding.fault for finding in findings)
        room = MAX_KEPT_FINDINGS - len(self.findings)
        self.findings += findings[: max(0, room)]

    def add(self, stream: Stream) -> bytes:
        """Add a stream; returns the line about its schedule, empty if it has none."""
        checked = check_stream(self._mapper, [event.record for event in stream])
        self.add_findings(*checked.findings)
        self.streams += 1
        for event in stream:
            self._count(event)
        self.code_versions.update(self._code_versions(stream, checked))
        if checked.order is not None:
            self.orders += 1
            self.statuses[checked.order.state] += 1
        return self._schedule(checked)

    def _count(self, event: PackedEvent) -> None:
        record = event.record
        self.events += 1
        self.types[record.topic.rpartition(":")[2]] += 1
        first, last = self.first_recorded_at, self.last_recorded_at
        at = record.recorded_at
        self.first_recorded_at = at if first is None else min(first, at)
        self.last_recorded_at = at if last is None else max(last, at)

    def _code_versions(self, stream: Stream, checked: CheckedStream) -> Iterator[str]:
        """The code version that wrote each event of Pulse that can be read."""
        if checked.events:
            yield from (event.recorded_by.code_version for _, event in checked.events)
            return
        for packed in stream:
            with suppress(EventTooNew, EventUnreadable):
                yield self._mapper.event_of(packed.record).recorded_by.code_version

    def _schedule(self, checked: CheckedStream) -> bytes:
        order, slices = checked.order, checked.slices
        if order is None or slices is None:
            return b""
        self.schedules += 1
        self.slices += slices
        created = next(event for _, event in checked.events if isinstance(event, OrderCreated))
        position = next(at for at, event in checked.events if isinstance(event, SlicesScheduled))
        if len(self.drawn) < MAX_DRAWN:
            self.drawn.append(Drawn(created, order.slices, order.slice_states))
        derivation = Derivation(
            position=position,
            order_id=created.originator_id,
            total_quantity=created.total_quantity,
            num_splits=created.num_splits,
            duration_minutes=created.duration_minutes,
            randomize=created.randomize,
            window_starts_at=created.window_starts_at,
            split_seed=created.split_seed,
            splitter_version=created.splitter_version,
            applied_policy=created.applied_policy,
            calendar_digest=created.calendar_digest,
            sessions=created.sessions,
            matches=all(finding.fault != "SCHEDULE" for finding in checked.findings),
        )
        return msgspec.json.encode(derivation) + b"\n"


def events_in(archive: Archive) -> Iterator[PackedEvent]:
    """The events of a pack.

    Raises:
        PackInvalid: a line has another form, or a part is missing.
    """
    for part in parts_of(archive, EVENTS):
        for number, line in enumerate(archive.lines(part, MAX_LINE_BYTES), 1):
            try:
                yield parse_line(line)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise PackInvalid(f"line {number:,} of {part} cannot be read: {error}") from error


def streams_in(archive: Archive) -> Iterator[Stream]:
    """The events of a pack by stream: consecutive events of the same stream.

    Raises:
        PackInvalid: a line has another form, or a stream is larger than a pack can have.
    """
    stream: Stream = []
    size = 0
    for event in events_in(archive):
        if stream and stream[0].record.originator_id != event.record.originator_id:
            yield stream
            stream, size = [], 0
        stream.append(event)
        size += len(event.entry) + len(event.record.state)
        if size > MAX_STREAM_BYTES:
            raise PackInvalid(f"a stream is larger than {MAX_STREAM_BYTES:,} bytes")
    if stream:
        yield stream


def parts_of(archive: Archive, group: str) -> Iterator[str]:
    """The parts of the events or the schedules, in order.

    Raises:
        PackInvalid: one before another is missing.
    """
    parts = [name for name in archive.members if name.startswith(f"{group}/")]
    for number, part in enumerate(parts, 1):
        if part != part_of(group, number):
            raise PackInvalid(f"{part_of(group, number)} is missing")
        yield part
