"""Use cases: place an order, read orders. One `Orders` protocol for whoever asks."""

from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.event_view import TOPICS, EventType, EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import (
    Caller,
    EventPage,
    EventQuery,
    OrderNotFound,
    Orders,
    OrdersAndQueries,
    Placed,
    Queries,
)
from pulse.application.origin import Clock, Origin, new_request_id, new_trace_id, system_clock
from pulse.application.readiness import Readiness, Ready
from pulse.application.stored_terms import newest_terms
from pulse.application.verification import Finding, ScheduleVerification, Verified

__all__ = [
    "TOPICS",
    "Caller",
    "Clock",
    "ClockOff",
    "ClockWatch",
    "EventPage",
    "EventQuery",
    "EventType",
    "EventView",
    "Finding",
    "InProcessOrders",
    "OrderNotFound",
    "Orders",
    "OrdersAndQueries",
    "Origin",
    "Placed",
    "Queries",
    "Readiness",
    "Ready",
    "ScheduleVerification",
    "Verified",
    "new_request_id",
    "new_trace_id",
    "newest_terms",
    "system_clock",
]
