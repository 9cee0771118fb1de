"""Use cases: place an order, read orders. One `Orders` protocol for whoever asks."""

from pulse.application.callers import Caller, CallerUnnamable
from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.event_view import TOPICS, EventType, EventView
from pulse.application.facts import Facts, read_facts
from pulse.application.fit_log import LogUnfit, read_sequence_fault, require_fit_log
from pulse.application.in_process import InProcessOrders
from pulse.application.notice_watch import NoticeWatch
from pulse.application.notices import Notice, notices_of
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
from pulse.application.readiness import OwnParts, Readiness, Ready
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
    "LogUnfit",
    "Notice",
    "NoticeWatch",
    "OrderNotFound",
    "Orders",
    "OrdersAndQueries",
    "OrdersOverHttp",
    "Origin",
    "OwnParts",
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
    "read_sequence_fault",
    "require_fit_log",
    "system_clock",
    "verify_log",
    "verify_order",
]
