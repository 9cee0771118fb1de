"""Halts of releases: set one, lift one, read all. Every answer is computed from their stream."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from pulse.application.callers import MAX_NAME_CHARACTERS, Caller
from pulse.application.origin import Clock, Origin
from pulse.domain import (
    HALTS_STREAM_ID,
    Halt,
    HaltReleases,
    Halts,
    HaltScope,
    HaltTarget,
    OrderRefused,
    ResumeReleases,
    Trace,
    decide_halt,
    evolve_halts,
)
from pulse.domain.order_request import INVALID_REQUEST, Instrument
from pulse.eventstore import EventStore, RecordedEvent, VersionTaken

_CONTROL_FREE = r"^[^\u0000-\u001f\u007f-\u009f]+(?![\s\S])"

Reason = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=255,
        description="a string of 1 to 255 characters",
        examples=["wrong limit price in the model"],
    ),
]
PlacedBy = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        pattern=_CONTROL_FREE,
        description="a caller's name as in an order's placed_by, without control characters",
        examples=["algo-desk"],
    ),
]


class HaltRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to halt, and why. INSTRUMENT needs `instrument`, CALLER needs `placed_by`."""

    scope: HaltScope
    reason: Reason
    instrument: Instrument | None = None
    placed_by: PlacedBy | None = None

    @property
    def target(self) -> HaltTarget:
        """What to halt."""
        return HaltTarget(scope=self.scope, instrument=self.instrument, placed_by=self.placed_by)


def require_scope_fields(request: HaltRequest) -> None:
    """Check that the request has the field of its scope, and not the field of another scope.

    Raises:
        OrderRefused: a field is missing, or is not allowed.
    """
    required = {"INSTRUMENT": "instrument", "CALLER": "placed_by"}.get(request.scope)
    for field in ("instrument", "placed_by"):
        given = getattr(request, field) is not None
        if given and field != required:
            expected = f"no {field} with scope {request.scope}"
            raise OrderRefused(INVALID_REQUEST, field, expected, "is not allowed")
        if field == required and not given:
            expected = f"this field with scope {request.scope}"
            raise OrderRefused(INVALID_REQUEST, field, expected, "is missing")


class HaltView(msgspec.Struct, frozen=True):
    """A halt as the API returns it. The fields `lifted_*` are null while it is in force."""

    halt_id: UUID
    scope: HaltScope
    instrument: str | None
    placed_by: str | None
    reason: str
    halted_by: str
    halted_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None
    lifted_reason: str | None


class HaltSet(msgspec.Struct, frozen=True):
    """The halt in force for a target; `created` is True if this call set it.

    `position` is that of the last event of halts in the log.
    """

    halt: HaltView
    created: bool
    position: int


class HaltLifted(msgspec.Struct, frozen=True):
    """A halt that is lifted. `position` is that of the last event of halts in the log."""

    halt: HaltView
    position: int


class _FoldedHalts(msgspec.Struct, frozen=True):
    """The folded halts, and the last event."""

    halts: Halts = Halts()
    last: RecordedEvent | None = None

    @property
    def position(self) -> int:
        """The position of the last event; 0 without one."""
        return 0 if self.last is None else self.last.position


class ReleaseHalts:
    """The halts in the log. Keeps the folded stream, so a call usually reads only its end."""

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        origin: Origin,
        *,
        require_served: Callable[[], None] = lambda: None,
        component: str = "api",
    ) -> None:
        self._store = store
        self._clock = clock
        self._require_served = require_served
        self._recorded_by = origin.recorded_by(component)
        self._known = _FoldedHalts()

    async def current(self) -> Halts:
        """All halts, with every event that was committed before this call.

        The last known event is read again. If it is missing or differs, the log was restored to an
        earlier point, or events were lost in a failover: then the whole stream is read.

        Raises:
            DatabaseUnavailable: they cannot be read.
            EventTooNew, EventUnreadable, HistoryBroken: this code cannot read the stream.
        """
        known = self._known
        records = await self._read(known.halts.version - 1) if known.last else await self._read(0)
        if known.last and records and records[0].state == known.last.state:
            records = records[1:]
        elif known.last:
            known, records = _FoldedHalts(), await self._read(0)
        for record in records:
            if self._store.mapper.owns(record.topic):
                halts = evolve_halts(known.halts, self._store.mapper.event_of(record))
                known = _FoldedHalts(halts, record)
        self._known = known
        return known.halts

    async def _read(self, after_version: int) -> list[RecordedEvent]:
        return await self._store.read_stream_after(HALTS_STREAM_ID, after_version)

    async def halt(self, request: HaltRequest, caller: Caller, trace: Trace) -> HaltSet:
        """Halt releases. After it returns, no process records a release of this target.

        If a halt of the same target is in force, it is returned unchanged.

        Raises:
            ClockOff, AppendRefused: this call halted nothing.
            AppendOutcomeUnknown: a retry resolves it.
            DatabaseUnavailable: the halts cannot be read.
        """
        self._require_served()
        target = request.target
        while True:
            command = HaltReleases(
                target=target,
                reason=request.reason,
                halted_by=caller.placed_by,
                at=self._clock(),
                recorded_by=self._recorded_by,
                trace=trace,
            )
            halts, position, created = await self._append(command)
            halt = halts.on(target)
            if halt is not None:
                return HaltSet(halt_view(halt), created, position)

    async def resume(
        self, halt_id: UUID, reason: str | None, caller: Caller, trace: Trace
    ) -> HaltLifted:
        """Lift a halt. A halt that is already lifted is returned unchanged.

        Raises:
            HaltNotFound: no halt has this id.
            ClockOff, AppendRefused, AppendOutcomeUnknown, DatabaseUnavailable: as `halt`.
        """
        self._require_served()
        while True:
            command = ResumeReleases(
                halt_id=halt_id,
                reason=reason,
                resumed_by=caller.placed_by,
                at=self._clock(),
                recorded_by=self._recorded_by,
                trace=trace,
            )
            halts, position, _ = await self._append(command)
            halt = halts.of(halt_id)
            if halt.lifted_at is not None:
                return HaltLifted(halt_view(halt), position)

    async def all(self) -> list[HaltView]:
        """Every halt, in force or lifted, in the order they were set."""
        self._require_served()
        return [halt_view(halt) for halt in (await self.current()).halts]

    async def _append(self, command: HaltReleases | ResumeReleases) -> tuple[Halts, int, bool]:
        """Append the command's event.

        Returns the halts after it, a position of the log that includes all of their events, and
        whether the event was written. If another event took the version first, nothing was written,
        and the returned halts do not include that event: decide again.
        """
        halts = await self.current()
        known = self._known
        for event in decide_halt(command, halts):
            try:
                position = await self._store.append(event)
            except VersionTaken:
                return halts, known.position, False
            return evolve_halts(halts, event), position, True
        if known.last is not None:
            await self._store.confirm(known.last)
        return halts, known.position, False


def halt_view(halt: Halt) -> HaltView:
    """The view of a halt."""
    target = halt.target
    return HaltView(
        halt_id=halt.halt_id,
        scope=target.scope,
        instrument=target.instrument,
        placed_by=target.placed_by,
        reason=halt.reason,
        halted_by=halt.halted_by,
        halted_at=halt.halted_at,
        lifted_by=halt.lifted_by,
        lifted_at=halt.lifted_at,
        lifted_reason=halt.lifted_reason,
    )
