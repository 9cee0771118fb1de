"""Read models built from the log: the order queue, its projector, and the view of one order."""

from pulse.projections.lag import Lag, read_lag
from pulse.projections.order_view import OrderReader, OrderView
from pulse.projections.parked import ParkedOrder, ParkedOrders, Retried
from pulse.projections.projector import Busy, Projected, Projector
from pulse.projections.rebuild import OnProgress, Rebuild, RebuildRunning, Rebuilt

__all__ = [
    "Busy",
    "Lag",
    "OnProgress",
    "OrderReader",
    "OrderView",
    "ParkedOrder",
    "ParkedOrders",
    "Projected",
    "Projector",
    "Rebuild",
    "RebuildRunning",
    "Rebuilt",
    "Retried",
    "read_lag",
]
