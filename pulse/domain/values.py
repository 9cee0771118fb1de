"""The value types of orders and events."""

from datetime import datetime
from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A frozen value; two with equal fields are equal.

    Values form no cycles, so they need no GC tracking.
    """


class Slice(Value, frozen=True):
    """One timed part of an order: `quantity` shares at `scheduled_at` (UTC, microseconds)."""

    sequence_number: int
    quantity: int
    scheduled_at: datetime


class TraceContext(Value, frozen=True):
    """A span, by its W3C trace context: `traceparent`, and `tracestate` if there is one."""

    traceparent: str
    tracestate: str | UnsetType = UNSET


class Trace(Value, frozen=True):
    """The call that caused an event, and the trace that it belongs to.

    `traceparent` and `tracestate` are those of W3C Trace Context. A call without them has neither.
    """

    trace_id: str
    trace_source: str
    request_id: str
    request_source: str
    traceparent: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET

    @property
    def context(self) -> TraceContext | None:
        """The W3C trace context; None if there is none."""
        return _context_of(self)

    def within(self, context: TraceContext) -> "Trace":
        """The same call, in the span that this context names."""
        return msgspec.structs.replace(
            self, traceparent=context.traceparent, tracestate=context.tracestate
        )


# Properties delegate to functions because the mutation tests do not change properties.


def _context_of(trace: Trace) -> TraceContext | None:
    if trace.traceparent is UNSET:
        return None
    return TraceContext(traceparent=trace.traceparent, tracestate=trace.tracestate)


class RecordedBy(Value, frozen=True):
    """The process that wrote an event, and its code version.

    The component is api, worker, monitor, releaser or cli.
    """

    component: str
    instance: str
    code_version: str


SliceState = Literal["SCHEDULED", "RELEASED", "CANCELLED", "EXPIRED"]
"""SCHEDULED until the slice is settled: released, cancelled or expired. These states are final."""

SLICE_STATES: Final[tuple[SliceState, ...]] = get_args(SliceState)


SessionPolicy = Literal["NONE", "REJECT", "CLIP", "ROLL"]
"""How an order's window is handled outside trading sessions.

NONE: sessions are ignored. REJECT: the order is refused. CLIP: the window ends at the close of its
session. ROLL: time outside sessions does not count.
"""

SESSION_POLICIES: Final[tuple[SessionPolicy, ...]] = get_args(SessionPolicy)


HaltScope = Literal["ALL", "INSTRUMENT", "CALLER"]
"""What a halt stops: every release, those of one instrument, or those of one caller's orders."""


class Window(Value, frozen=True):
    """When the first slice is due, and when the last one."""

    starts_at: datetime
    ends_at: datetime


class Quantities(Value, frozen=True):
    """The shares of an order by state. They always sum to its total quantity."""

    remaining: int
    released: int = 0
    cancelled: int = 0
    expired: int = 0
