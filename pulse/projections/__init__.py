"""Read models built from the log: the order queue, its projector, and the view of one order."""

from pulse.projections.lag import Lag, read_lag
from pulse.projections.order_view import OrderReader, OrderView
from pulse.projections.projector import Busy, Projected, Projector

__all__ = ["Busy", "Lag", "OrderReader", "OrderView", "Projected", "Projector", "read_lag"]
