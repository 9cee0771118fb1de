"""The splitting kit: what others need to test against Pulse's domain, by property and by example.

Strategies for orders, their edges and their schedules; `check_schedule`; the laws of a splitter and
a comparison of one's own with them; conformance vectors. Needs `hypothesis` (in a clone:
`pip install '.[testing]'`), which Pulse itself does not; of Pulse it knows only the domain.
"""

from pulse.testing.checking import ScheduleBroken, check_schedule
from pulse.testing.comparing import last_takes_the_rest
from pulse.testing.splitter_laws import SPLITTER_LAWS, Sample, sample_of
from pulse.testing.strategies import (
    edge_sizes,
    edge_split_terms,
    moments,
    order_request_bodies,
    order_requests,
    place_orders,
    schedules,
    sizes,
    split_terms,
)

__all__ = [
    "SPLITTER_LAWS",
    "Sample",
    "ScheduleBroken",
    "check_schedule",
    "edge_sizes",
    "edge_split_terms",
    "last_takes_the_rest",
    "moments",
    "order_request_bodies",
    "order_requests",
    "place_orders",
    "sample_of",
    "schedules",
    "sizes",
    "split_terms",
]
