"""The events of orders and halts. Shipped class versions are never edited; golden files pin them.

Each has its topic as a constant, so stored events stay readable when a module moves. The structs
match the event protocol of the `eventsourcing` library without importing it.
"""

from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec

from pulse.domain.order_request import OrderSpec, Side, SplitConfigRequest
from pulse.domain.sessions import Session
from pulse.domain.splitting import SplitTerms, split_terms_of
from pulse.domain.values import HaltScope, RecordedBy, SessionPolicy, Slice, Trace, TraceContext

ZonedTime = Annotated[datetime, msgspec.Meta(tz=True)]


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of every event: its stream, its version there, when, by whom and why.

    `timestamp` is in UTC to the microsecond, by the application's clock unless the event's class
    says otherwise.
    """

    TOPIC: ClassVar[str]
    class_version: ClassVar[int] = 1

    originator_id: UUID
    originator_version: int
    timestamp: datetime
    recorded_by: RecordedBy
    trace: Trace


class OrderCreated(DomainEvent, frozen=True, kw_only=True):
    """An order was accepted. The event contains everything that its schedule depends on.

    `release` is whether Pulse releases the slices at their times. `start_at` and `session_policy`
    are what the caller asked for, null if nothing. `window_starts_at` is when the first slice is
    due, and `applied_policy` the session policy that was applied. `sessions` are the trading
    sessions of the window, each as [opens_at, closes_at], taken from the calendar with the SHA-256
    `calendar_digest`; there are none under the policy NONE.

    Class version 1 does not have `release`: Pulse did not release slices then. Versions 1 and 2 do
    not have the other fields named here: each window started at its order's creation, and sessions
    were ignored.
    """

    TOPIC: ClassVar[str] = "pulse.domain:OrderCreated"
    class_version: ClassVar[int] = 3

    key_scope: str
    order_unique_key: str
    instrument: str
    side: Side
    total_quantity: int
    num_splits: int
    duration_minutes: int
    randomize: bool
    start_at: ZonedTime | None
    session_policy: SessionPolicy | None
    split_seed: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$", max_length=16)]
    splitter_version: int
    placed_by: str
    release: bool
    window_starts_at: ZonedTime
    applied_policy: SessionPolicy
    sessions: tuple[tuple[ZonedTime, ZonedTime], ...]
    calendar_digest: str | None

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        """Change a state of class version 1 to version 2."""
        state["release"] = False

    @staticmethod
    def downcast_v2_v1(state: dict[str, Any]) -> None:
        """Undo the upcast, to compare an event with its stored bytes."""
        del state["release"]

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        """Change a state of class version 2 to version 3."""
        state |= _ADDED_IN_V3 | {"window_starts_at": state["timestamp"]}

    @staticmethod
    def downcast_v3_v2(state: dict[str, Any]) -> None:
        """Undo the upcast, to compare an event with its stored bytes."""
        for name in (*_ADDED_IN_V3, "window_starts_at"):
            del state[name]

    @property
    def spec(self) -> OrderSpec:
        """What the caller asked for."""
        fields: list[Any] = [*_spec_of(self)]
        fields.insert(_SPLIT_CONFIG_AT, SplitConfigRequest(*_split_config_of(self)))
        return OrderSpec(*fields)

    @property
    def terms(self) -> SplitTerms:
        """Everything that determines the order's schedule."""
        return split_terms_of(
            self.spec,
            seed=int(self.split_seed, 16),
            starts_at=self.window_starts_at,
            sessions=self.trading_sessions,
        )

    @property
    def trading_sessions(self) -> tuple[Session, ...]:
        """The sessions of the window; empty under the policy NONE."""
        return tuple([Session(opens_at=opens, closes_at=closes) for opens, closes in self.sessions])


class SlicesScheduled(DomainEvent, frozen=True, kw_only=True):
    """The order was split; `claimed_at` is the winning claim's time by the database's clock."""

    TOPIC: ClassVar[str] = "pulse.domain:SlicesScheduled"

    slices: tuple[Slice, ...]
    splitter_version: int
    worker: str
    claimed_at: datetime


class SplittingFailed(DomainEvent, frozen=True, kw_only=True):
    """The order will never have slices; `reason` is a code, `message` explains it."""

    TOPIC: ClassVar[str] = "pulse.domain:SplittingFailed"

    reason: str
    message: str
    worker: str
    claimed_at: datetime


class TimedOut(DomainEvent, frozen=True, kw_only=True):
    """The order failed: it was not split within `timeout_seconds` of its first claim."""

    TOPIC: ClassVar[str] = "pulse.domain:TimedOut"

    claimed_by: str
    claimed_at: datetime
    timeout_seconds: float
    detected_by: str


class OrderCancelled(DomainEvent, frozen=True, kw_only=True):
    """What was not settled yet is cancelled: these slices, or the whole order before its split.

    `sequence_numbers` is empty for an order that was not split. `quantity` is in shares.
    """

    TOPIC: ClassVar[str] = "pulse.domain:OrderCancelled"

    sequence_numbers: tuple[int, ...]
    quantity: int
    reason: str | None
    cancelled_by: str


class SlicesReleased(DomainEvent, frozen=True, kw_only=True):
    """These slices are to be executed now. The event has everything that an executor needs.

    `timestamp` is by the database's clock. Order id and sequence number identify a slice.
    """

    TOPIC: ClassVar[str] = "pulse.domain:SlicesReleased"

    order_unique_key: str
    instrument: str
    side: Side
    slices: tuple[Slice, ...]


class SlicesExpired(DomainEvent, frozen=True, kw_only=True):
    """These slices were not released in time and never will be; `reason` is a code.

    `timestamp` is by the database's clock. `quantity` is in shares.
    """

    TOPIC: ClassVar[str] = "pulse.domain:SlicesExpired"

    sequence_numbers: tuple[int, ...]
    quantity: int
    reason: str


class ReleasesHalted(DomainEvent, frozen=True, kw_only=True):
    """No slice in this scope is released until the halt is lifted.

    `instrument` is set for the scope INSTRUMENT, `placed_by` for CALLER: whose orders are halted.
    """

    TOPIC: ClassVar[str] = "pulse.domain:ReleasesHalted"

    halt_id: UUID
    scope: HaltScope
    instrument: str | None
    placed_by: str | None
    reason: str
    halted_by: str


class ReleasesResumed(DomainEvent, frozen=True, kw_only=True):
    """The halt was lifted. Slices that expired meanwhile stay expired."""

    TOPIC: ClassVar[str] = "pulse.domain:ReleasesResumed"

    halt_id: UUID
    reason: str | None
    resumed_by: str


Event = (
    OrderCreated
    | SlicesScheduled
    | SplittingFailed
    | TimedOut
    | OrderCancelled
    | SlicesReleased
    | SlicesExpired
    | ReleasesHalted
    | ReleasesResumed
)
EVENT_TYPES: tuple[type[Event], ...] = (
    OrderCreated,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
    OrderCancelled,
    SlicesReleased,
    SlicesExpired,
    ReleasesHalted,
    ReleasesResumed,
)

_ADDED_IN_V3: dict[str, Any] = {
    "start_at": None,
    "session_policy": None,
    "applied_policy": "NONE",
    "sessions": [],
    "calendar_digest": None,
}

# The stored form is flat: the fields of split_config are on the same level as the others.
_SPLIT_CONFIG_AT = OrderSpec.__struct_fields__.index("split_config")
_spec_of = attrgetter(*(name for name in OrderSpec.__struct_fields__ if name != "split_config"))
_split_config_of = attrgetter(*SplitConfigRequest.__struct_fields__)


def flat_fields(spec: OrderSpec) -> dict[str, Any]:
    """The fields of a spec, flat as in OrderCreated."""
    fields = msgspec.structs.asdict(spec)
    return fields | msgspec.structs.asdict(fields.pop("split_config"))


def background_event_fields(  # noqa: PLR0913 - the envelope of an event
    *,
    order_id: UUID,
    version: int,
    trace_id: str,
    at: datetime,
    request_id: str,
    recorded_by: RecordedBy,
    process: str,
    context: TraceContext | None,
) -> dict[str, Any]:
    """The common fields of an event of a background process: the order's trace, a new request id.

    `context` is the span that the event belongs to, if there is one.
    """
    source = f"PULSE_BACKGROUND:{process}"
    trace = Trace(
        trace_id=trace_id, trace_source=source, request_id=request_id, request_source=source
    )
    return {
        "originator_id": order_id,
        "originator_version": version,
        "timestamp": at,
        "recorded_by": recorded_by,
        "trace": trace if context is None else trace.within(context),
    }
