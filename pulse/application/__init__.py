"""Use cases: place an order, read orders. One `Orders` protocol for whoever asks."""

from pulse.application.answers_over_http import PulseAway, PulseBusy, PulseFailed
from pulse.application.callers import Caller, CallerUnnamable
from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.event_view import TOPICS, EventType, EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import (
    EventPage,
    EventQuery,
    OrderNotFound,
    Orders,
    OrdersAndQueries,
    Placed,
    Queries,
)
from pulse.application.origin import Clock, Origin, new_request_id, new_trace_id, system_clock
from pulse.application.over_http import (
    ON_BEHALF_OF,
    HttpLimits,
    OrdersOverHttp,
    open_orders_over_http,
)
from pulse.application.readiness import Readiness, Ready

__all__ = [
    "ON_BEHALF_OF",
    "TOPICS",
    "Caller",
    "CallerUnnamable",
    "Clock",
    "ClockOff",
    "ClockWatch",
    "EventPage",
    "EventQuery",
    "EventType",
    "EventView",
    "HttpLimits",
    "InProcessOrders",
    "OrderNotFound",
    "Orders",
    "OrdersAndQueries",
    "OrdersOverHttp",
    "Origin",
    "Placed",
    "PulseAway",
    "PulseBusy",
    "PulseFailed",
    "Queries",
    "Readiness",
    "Ready",
    "new_request_id",
    "new_trace_id",
    "open_orders_over_http",
    "system_clock",
]
