"""The order queue as of any position or time: sums per window of the log, and the rest folded.

Each event changes the number of orders by status and the quantities in a way that the event alone
determines. A job sums up these effects once per window, after the projection has passed it. The
queue as of a position is the sum of all windows before it, plus the events after them. Events that
the queue could not apply, those of parked orders, are subtracted.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pulse.domain import (
    OrderCancelled,
    OrderCreated,
    Quantities,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
)
from pulse.errors import PulseError
from pulse.eventstore import OWN_PREFIX, EventMapper, EventTooNew
from pulse.loop import Job
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.position import PROJECTION_NAME

HISTORY_LOCK: Final = 0x50554C53_45000004
"""The advisory lock that lets one process at a time sum up a window."""

WINDOW_POSITIONS: Final = 1024
"""The positions of a window. It must never change: stored windows have this size."""

MAX_FOLDED_EVENTS: Final = 100_000
"""The maximum number of events that a query folds. More are left only if the job is far behind."""

MAX_SCANNED_POSITIONS: Final = 1_000_000
"""A query that needs a time reads at most this many positions that are not summed up yet."""

EVENTS_PER_READ: Final = 4096
_WINDOWS_PER_STEP: Final = 8
_PAUSE_FACTOR: Final = 19
_PAUSE_FACTOR_BEHIND: Final = 4
"""The pause as a multiple of the duration of the step: 5 % of one core, or 20 % if far behind."""

_MAX_WINDOWS_BEHIND: Final = 32
"""Further behind than this the job pauses less, so that queries rarely fold more windows."""

_TRY_LOCK = load_sql(__package__, "try_history_lock")
_SELECT_WINDOW = load_sql(__package__, "select_history_window")
_INSERT_HISTORY = load_sql(__package__, "insert_history")
_SELECT_HISTORY = load_sql(__package__, "select_history")
_SELECT_EFFECTS = load_sql(__package__, "select_effects")
_SELECT_EFFECTS_END = load_sql(__package__, "select_effects_end")
_SELECT_PARKED_EFFECTS = load_sql(__package__, "select_parked_effects")
_SELECT_POSITION_AT = load_sql(__package__, "select_position_at")
_SELECT_RECORDED_UNTIL = load_sql(__package__, "select_recorded_until")

_FAILURES: Final = (SplittingFailed.TOPIC, TimedOut.TOPIC)
_CLASS_VERSIONS: Final = {
    kind.TOPIC: kind.class_version
    for kind in (OrderCreated, OrderCancelled, SlicesReleased, SlicesExpired)
} | dict.fromkeys(_FAILURES, OrderCreated.class_version)
"""The class versions that this code knows, by the topic whose states are decoded here."""


class HistoryIncomplete(PulseError):
    """Too much of the log is not summed up yet to answer now."""

    def __init__(self) -> None:
        super().__init__(
            "the history of the queue is still being computed up to this position, which is normal "
            "after an upgrade: retry in a few minutes"
        )


class QueueTotals(msgspec.Struct, frozen=True):
    """How many orders have each status, and their shares by state.

    An order never counts as IN_PROGRESS, because claims are not events.
    """

    pending: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    remaining_quantity: int = 0
    released_quantity: int = 0
    cancelled_quantity: int = 0
    expired_quantity: int = 0

    def plus(self, other: "QueueTotals") -> "QueueTotals":
        """The sum of both."""
        return QueueTotals(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def minus(self, other: "QueueTotals") -> "QueueTotals":
        """The difference of both."""
        return QueueTotals(*(a - b for a, b in zip(_values(self), _values(other), strict=True)))

    @property
    def quantities(self) -> Quantities:
        """The shares by state."""
        return Quantities(*_values(self)[4:])


_values = msgspec.structs.astuple


class Moment(msgspec.Struct, frozen=True):
    """The last event at or before a position, and the latest time recorded up to that event.

    Position 0 with None means before the first event.
    """

    position: int
    recorded_until: datetime | None


class _SliceQuantity(msgspec.Struct, gc=False):
    quantity: int


class _State(msgspec.Struct, gc=False):
    """The fields that the effects depend on; each event type has some of them."""

    class_version: int = 1
    total_quantity: int = 0
    quantity: int = 0
    sequence_numbers: tuple[int, ...] = ()
    slices: tuple[_SliceQuantity, ...] = ()


_states = msgspec.json.Decoder(_State)


class QueueHistory:
    """Reads the past of the queue. Every method raises DatabaseUnavailable if it cannot be read."""

    def __init__(
        self, database: Database, mapper: EventMapper, *, window_positions: int = WINDOW_POSITIONS
    ) -> None:
        self._database = database
        self._mapper = mapper
        self._window_positions = window_positions

    async def totals(self, position: int) -> QueueTotals:
        """The queue as its events up to a position determine it.

        Orders whose events cannot be applied count as they were before the first such event, once
        the projection has found it.

        Raises:
            HistoryIncomplete: too many events up to the position are not summed up yet.
            EventTooNew: newer code must answer.
        """

        async def read(connection: Connection) -> QueueTotals:
            ((after, _, *sums),) = await fetch(connection, _SELECT_HISTORY, (position,))
            totals = QueueTotals(*map(int, sums))
            for _ in range(MAX_FOLDED_EVENTS // EVENTS_PER_READ):
                until = await read_effects_end(connection, after, position, events=EVENTS_PER_READ)
                if until is None:
                    return totals.minus(await parked_effects(connection, self._mapper, position))
                effects, _ = await read_effects(connection, self._mapper, after, until)
                totals, after = totals.plus(effects), until
            raise HistoryIncomplete

        return await self._database.read(read)

    async def position_at(self, at: datetime) -> tuple[int, datetime]:
        """The last position as of a moment, 0 before the first event; and the database's time.

        The time of an event is the latest time recorded up to it. So times never decrease with the
        position, even if the database's clock was set back.

        Raises:
            HistoryIncomplete: too many positions are not summed up yet.
        """
        parameters = {
            "at": at,
            "size": self._window_positions,
            "max_scanned": MAX_SCANNED_POSITIONS,
        }
        ((position, now),) = await self._database.read(
            lambda connection: fetch(connection, _SELECT_POSITION_AT, parameters)
        )
        if position is None:
            raise HistoryIncomplete
        return position, now

    async def moment(self, position: int) -> Moment:
        """The last event at or before a position, and the latest time recorded up to it.

        Raises:
            HistoryIncomplete: too many positions are not summed up yet.
        """
        parameters = {"position": position, "max_scanned": MAX_SCANNED_POSITIONS}
        ((recorded_until, last, complete),) = await self._database.read(
            lambda connection: fetch(connection, _SELECT_RECORDED_UNTIL, parameters)
        )
        if not complete:
            raise HistoryIncomplete
        return Moment(last or 0, recorded_until)


class Summed(msgspec.Struct, frozen=True):
    """A step summed up windows, the last of which ends at `until`. It took `seconds`.

    The projection has passed `windows_behind` more windows; some of them may have no events.
    """

    until: int
    windows_behind: int
    seconds: float


class HistorySummary(Job[Summed | None]):
    """Sums up the windows of the log that the projection has passed, one process at a time."""

    name = "queue-history"
    poll_seconds = 2.0

    def __init__(
        self, database: Database, mapper: EventMapper, *, window_positions: int = WINDOW_POSITIONS
    ) -> None:
        self._database = database
        self._mapper = mapper
        self._window_positions = window_positions

    async def run_once(self) -> Summed | None:
        """Sum up the next windows; None if none is complete or another process does it.

        Raises:
            DatabaseUnavailable: nothing was changed, unless the connection was lost at the commit.
            EventTooNew: newer code must sum up the next window.
        """
        started = time.perf_counter()
        async with self._database.connection() as connection, connection.transaction():
            ((locked,),) = await fetch(connection, _TRY_LOCK, (HISTORY_LOCK,))
            if not locked:
                return None
            summed: tuple[int, int] | None = None
            for _ in range(_WINDOWS_PER_STEP):
                found = await self._sum_up_next(connection)
                if found is None:
                    break
                summed = found
        if summed is None:
            return None
        until, projected = summed
        behind = (projected - until) // self._window_positions
        return Summed(until, behind, time.perf_counter() - started)

    async def _sum_up_next(self, connection: Connection) -> tuple[int, int] | None:
        """Sum up the next window; returns its end and the projected position."""
        parameters = {"size": self._window_positions, "projection": PROJECTION_NAME}
        rows = await fetch(connection, _SELECT_WINDOW, parameters)
        if not rows:
            return None
        after, until, projected = rows[0]
        totals, recorded_at = await read_effects(connection, self._mapper, after, until)
        await connection.execute(_INSERT_HISTORY, (until, recorded_at, *_values(totals)))
        return until, projected

    def pause_after(self, result: Summed | None) -> float | None:
        """A multiple of the time that the step took."""
        if result is None:
            return None
        far_behind = result.windows_behind > _MAX_WINDOWS_BEHIND
        return (_PAUSE_FACTOR_BEHIND if far_behind else _PAUSE_FACTOR) * result.seconds

    async def run_until_done(self) -> None:
        """Sum up windows until none is left, or another process sums them up.

        Raises: as `run_once`.
        """
        while await self.run_once() is not None:
            pass


async def read_effects(
    connection: Connection, mapper: EventMapper, after: int, until: int
) -> tuple[QueueTotals, datetime | None]:
    """The effects of the events between two positions, and the latest time recorded there.

    Raises:
        EventTooNew: newer code wrote one of them.
    """
    parameters = {
        "after": after,
        "until": until,
        "failures": list(_FAILURES),
        "scheduled": SlicesScheduled.TOPIC,
    }
    rows = await fetch(connection, _SELECT_EFFECTS, parameters)
    return _sum_of(rows, mapper), max((row[2] for row in rows), default=None)


async def read_effects_end(
    connection: Connection, after: int, until: int, *, events: int
) -> int | None:
    """The position of the last of the first `events` events after a position; None if none."""
    parameters = {"after": after, "until": until, "count": events}
    ((position,),) = await fetch(connection, _SELECT_EFFECTS_END, parameters)
    return position  # type: ignore[no-any-return]


async def parked_effects(connection: Connection, mapper: EventMapper, until: int) -> QueueTotals:
    """The effects of the events that the queue has not applied, up to a position."""
    parameters = {
        "until": until,
        "failures": list(_FAILURES),
        "scheduled": SlicesScheduled.TOPIC,
    }
    rows = await fetch(connection, _SELECT_PARKED_EFFECTS, parameters, prepare=False)
    return _sum_of(rows, mapper)


def _sum_of(rows: Iterable[Sequence[Any]], mapper: EventMapper) -> QueueTotals:
    """The sum of the effects of events, in rows of topic, count, time and states."""
    sums: Counter[str] = Counter()
    for topic, count, _, states in rows:
        if topic == SlicesScheduled.TOPIC:
            sums.update(pending=-count, completed=count)
        elif topic in _CLASS_VERSIONS:
            for state in states:
                _add_effect(sums, topic, state)
        elif topic is not None and topic.startswith(OWN_PREFIX) and not mapper.knows(topic):
            raise EventTooNew(f"{topic} is an event type that this code does not have")
    return QueueTotals(**sums)


def _add_effect(sums: Counter[str], topic: str, state: bytes) -> None:
    """Add the effect of an event. One that cannot be read has none: its order is parked.

    Raises:
        EventTooNew: newer code wrote it.
    """
    try:
        fields = _states.decode(state)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    if fields.class_version > _CLASS_VERSIONS[topic]:
        raise EventTooNew(f"an event {topic} has class version {fields.class_version}")
    if topic == OrderCreated.TOPIC:
        sums.update(pending=1, remaining_quantity=fields.total_quantity)
    elif topic in _FAILURES:
        sums.update(pending=-1, failed=1)
        _move(sums, "expired_quantity", fields.total_quantity)
    elif topic == OrderCancelled.TOPIC:
        if not fields.sequence_numbers:
            sums.update(pending=-1, cancelled=1)
        _move(sums, "cancelled_quantity", fields.quantity)
    elif topic == SlicesReleased.TOPIC:
        _move(sums, "released_quantity", sum([s.quantity for s in fields.slices]))
    else:
        _move(sums, "expired_quantity", fields.quantity)


def _move(sums: Counter[str], to: str, quantity: int) -> None:
    """Move a quantity from the remaining shares."""
    sums["remaining_quantity"] -= quantity
    sums[to] += quantity
