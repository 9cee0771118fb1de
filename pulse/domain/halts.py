"""Halts: while one is in force, no slice in its scope is released.

All halts are in one stream. So a release can require that no halt was set since the decision: the
stream must still have the version that was read. A target has at most one halt in force.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID, uuid5

import msgspec

from pulse.domain.errors import HaltNotFound, HistoryBroken
from pulse.domain.events import Event, ReleasesHalted, ReleasesResumed
from pulse.domain.identity import PULSE_NAMESPACE
from pulse.domain.values import HaltScope, RecordedBy, Trace, Value

HALTS_STREAM_ID: Final = uuid5(PULSE_NAMESPACE, '["halts"]')
"""The stream of all halts. No order has this id: orders' ids are derived from two strings."""


class HaltTarget(Value, frozen=True):
    """What a halt stops: everything, one instrument, or the orders that one caller placed."""

    scope: HaltScope
    instrument: str | None = None
    placed_by: str | None = None

    def covers(self, instrument: str, placed_by: str) -> bool:
        """Whether a halt of this target stops the releases of an order."""
        match self.scope:
            case "ALL":
                return True
            case "INSTRUMENT":
                return instrument == self.instrument
            case "CALLER":
                return placed_by == self.placed_by
            case _:
                assert_never(self.scope)


class HaltReleases(Value, frozen=True):
    """Release no slice of this target until the halt is lifted."""

    target: HaltTarget
    reason: str
    halted_by: str
    at: datetime
    recorded_by: RecordedBy
    trace: Trace


class ResumeReleases(Value, frozen=True):
    """Lift this halt."""

    halt_id: UUID
    reason: str | None
    resumed_by: str
    at: datetime
    recorded_by: RecordedBy
    trace: Trace


HaltCommand = HaltReleases | ResumeReleases


class Halt(Value, frozen=True):
    """A halt. `lifted_at` is None while it is in force."""

    halt_id: UUID
    target: HaltTarget
    reason: str
    halted_by: str
    halted_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None
    lifted_reason: str | None = None


class Halts(Value, frozen=True):
    """All halts, in the order they were set, folded from the stream up to `version`."""

    version: int = 0
    halts: tuple[Halt, ...] = ()

    @property
    def in_force(self) -> tuple[Halt, ...]:
        """The halts that are not lifted."""
        return _in_force(self)

    def covers(self, instrument: str, placed_by: str) -> bool:
        """Whether a halt in force stops the releases of an order."""
        return any(halt.target.covers(instrument, placed_by) for halt in self.in_force)

    def of(self, halt_id: UUID) -> Halt:
        """The halt with this id.

        Raises:
            HaltNotFound: no halt has this id.
        """
        for halt in self.halts:
            if halt.halt_id == halt_id:
                return halt
        raise HaltNotFound(str(halt_id))

    def on(self, target: HaltTarget) -> Halt | None:
        """The halt in force for exactly this target; there is at most one."""
        return next((halt for halt in self.in_force if halt.target == target), None)


def decide_halt(command: HaltCommand, halts: Halts) -> tuple[ReleasesHalted | ReleasesResumed, ...]:
    """The event that this command causes; none if it would change nothing.

    Raises:
        HaltNotFound: no halt has the id.
    """
    version = halts.version + 1
    match command:
        case HaltReleases():
            if halts.on(command.target) is not None:
                return ()
            return (
                ReleasesHalted(
                    originator_id=HALTS_STREAM_ID,
                    originator_version=version,
                    timestamp=command.at,
                    recorded_by=command.recorded_by,
                    trace=command.trace,
                    halt_id=uuid5(HALTS_STREAM_ID, str(version)),
                    scope=command.target.scope,
                    instrument=command.target.instrument,
                    placed_by=command.target.placed_by,
                    reason=command.reason,
                    halted_by=command.halted_by,
                ),
            )
        case ResumeReleases():
            if halts.of(command.halt_id).lifted_at is not None:
                return ()
            return (
                ReleasesResumed(
                    originator_id=HALTS_STREAM_ID,
                    originator_version=version,
                    timestamp=command.at,
                    recorded_by=command.recorded_by,
                    trace=command.trace,
                    halt_id=command.halt_id,
                    reason=command.reason,
                    resumed_by=command.resumed_by,
                ),
            )
        case _:
            assert_never(command)


def evolve_halts(halts: Halts, event: Event) -> Halts:
    """The halts after this event.

    Raises:
        HistoryBroken: the event cannot follow: it leaves a gap in the versions, sets a halt whose
            target is already halted, lifts one that is not in force, or is not an event of a halt.
    """
    if event.originator_id != HALTS_STREAM_ID or event.originator_version != halts.version + 1:
        raise _broken(event, f"the stream of halts is at version {halts.version}")
    match event:
        case ReleasesHalted():
            target = HaltTarget(
                scope=event.scope, instrument=event.instrument, placed_by=event.placed_by
            )
            if halts.on(target) is not None:
                raise _broken(event, "a halt of this target is in force")
            halt = Halt(
                halt_id=event.halt_id,
                target=target,
                reason=event.reason,
                halted_by=event.halted_by,
                halted_at=event.timestamp,
            )
            return Halts(version=event.originator_version, halts=(*halts.halts, halt))
        case ReleasesResumed():
            return Halts(version=event.originator_version, halts=_without(halts, event))
        case _:
            raise _broken(event, "it is not an event of a halt")


def fold_halts(events: Iterable[Event]) -> Halts:
    """The halts after all these events."""
    halts = Halts()
    for event in events:
        halts = evolve_halts(halts, event)
    return halts


def _without(halts: Halts, event: ReleasesResumed) -> tuple[Halt, ...]:
    """The halts with this one lifted."""
    if event.halt_id not in {halt.halt_id for halt in halts.in_force}:
        raise _broken(event, "the halt that it lifts is not in force")
    return tuple(
        msgspec.structs.replace(
            halt,
            lifted_by=event.resumed_by,
            lifted_at=event.timestamp,
            lifted_reason=event.reason,
        )
        if halt.halt_id == event.halt_id
        else halt
        for halt in halts.halts
    )


def _in_force(halts: Halts) -> tuple[Halt, ...]:
    return tuple(halt for halt in halts.halts if halt.lifted_at is None)


def _broken(event: Event, why: str) -> HistoryBroken:
    return HistoryBroken(
        f"{type(event).__name__} at version {event.originator_version} of stream "
        f"{event.originator_id} cannot follow: {why}"
    )
