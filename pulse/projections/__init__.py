"""Read models built from the log: the order queue, its projector, its lists, one order's view."""

from pulse.projections.audit import (
    Audit,
    AuditedWindow,
    AuditFault,
    AuditFinding,
    AuditState,
    read_audit_state,
)
from pulse.projections.lag import Lag, read_lag, read_position, select_lag
from pulse.projections.order_list import MOST_ORDERS_A_PAGE, OrderPage, OrderQuery, read_orders
from pulse.projections.order_view import OrderQueueStatus, OrderReader, OrderView
from pulse.projections.parked import ParkedOrder, ParkedOrders, Retried
from pulse.projections.projector import BUSY_SECONDS, Busy, Projected, Projector
from pulse.projections.queue_health import (
    LATELY_SECONDS,
    MAX_LOOKED_AT,
    QueueHealth,
    read_queue_health,
)
from pulse.projections.rebuild import OnProgress, Rebuild, RebuildRunning, Rebuilt
from pulse.projections.slice_list import (
    MOST_SLICES_A_PAGE,
    ScheduledSlice,
    SlicePage,
    SlicePlace,
    SliceQuery,
    read_slices,
)

__all__ = [
    "BUSY_SECONDS",
    "LATELY_SECONDS",
    "MAX_LOOKED_AT",
    "MOST_ORDERS_A_PAGE",
    "MOST_SLICES_A_PAGE",
    "Audit",
    "AuditFault",
    "AuditFinding",
    "AuditState",
    "AuditedWindow",
    "Busy",
    "Lag",
    "OnProgress",
    "OrderPage",
    "OrderQuery",
    "OrderQueueStatus",
    "OrderReader",
    "OrderView",
    "ParkedOrder",
    "ParkedOrders",
    "Projected",
    "Projector",
    "QueueHealth",
    "Rebuild",
    "RebuildRunning",
    "Rebuilt",
    "Retried",
    "ScheduledSlice",
    "SlicePage",
    "SlicePlace",
    "SliceQuery",
    "read_audit_state",
    "read_lag",
    "read_orders",
    "read_position",
    "read_queue_health",
    "read_slices",
    "select_lag",
]
