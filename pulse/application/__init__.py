"""Use cases: place an order, read orders. One `Orders` protocol for whoever asks."""

from pulse.application.callers import Caller, CallerUnnamable
from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.event_view import TOPICS, EventType, EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.notices import Facts, Notice, NoticeWatch, notices_of, read_facts
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
    PulseAway,
    PulseBusy,
    PulseFailed,
    open_orders_over_http,
)
from pulse.application.readiness import Readiness, Ready
from pulse.application.verification import (
    Finding,
    Unverified,
    Verified,
    newest_terms,
    verify_log,
    verify_order,
)

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
    "Facts",
    "Finding",
    "HttpLimits",
    "InProcessOrders",
    "Notice",
    "NoticeWatch",
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
    "Unverified",
    "Verified",
    "new_request_id",
    "new_trace_id",
    "newest_terms",
    "notices_of",
    "open_orders_over_http",
    "read_facts",
    "system_clock",
    "verify_log",
    "verify_order",
]
