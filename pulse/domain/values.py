"""The values an order and its events are made of."""

from datetime import datetime

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A frozen value; two with equal fields are equal.

    Made of scalars and of each other, so never part of a cycle: no work for the garbage collector.
    """


class Slice(Value, frozen=True):
    """One timed part of an order: `quantity` shares at `scheduled_at` (UTC, microseconds)."""

    sequence_number: int
    quantity: int
    scheduled_at: datetime


class Trace(Value, frozen=True):
    """Which call caused a fact, and on whose behalf it travelled."""

    trace_id: str
    trace_source: str
    request_id: str
    request_source: str


class RecordedBy(Value, frozen=True):
    """Who wrote an event: the component (api, worker, monitor), its instance and its code."""

    component: str
    instance: str
    code_version: str
