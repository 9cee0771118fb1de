"""Use cases: place an order, read orders. One `Orders` protocol for whoever asks."""

from pulse.application.clock_watch import ClockOff, ClockWatch
from pulse.application.event_view import EventView
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import Caller, OrderNotFound, Orders, Placed
from pulse.application.origin import Clock, Origin, new_request_id, new_trace_id, system_clock
from pulse.application.readiness import Readiness

__all__ = [
    "Caller",
    "Clock",
    "ClockOff",
    "ClockWatch",
    "EventView",
    "InProcessOrders",
    "OrderNotFound",
    "Orders",
    "Origin",
    "Placed",
    "Readiness",
    "new_request_id",
    "new_trace_id",
    "system_clock",
]
