"""What others need to test against Pulse's domain by property: Hypothesis strategies for it.

Needs `hypothesis`, which Pulse itself does not; of Pulse it knows only the domain.
"""

from pulse.testing.strategies import (
    histories,
    moments,
    order_request_bodies,
    order_requests,
    orders,
    place_orders,
    split_terms,
)

__all__ = [
    "histories",
    "moments",
    "order_request_bodies",
    "order_requests",
    "orders",
    "place_orders",
    "split_terms",
]
