"""The splitting kit: what others need to test against Pulse's domain, by property and by example.

Strategies for orders, their edges, their schedules and their lives; `check_schedule`; scenarios;
the laws of a splitter and a comparison of one's own with them; conformance vectors. Needs
`hypothesis` (in a clone: `pip install '.[testing]'`), which Pulse itself does not; of Pulse it
knows only the domain.
"""

from pulse.testing.checking import ScheduleBroken, check_schedule
from pulse.testing.commands import place_order, split_order, time_out_order
from pulse.testing.histories import claims, histories, orders, orders_in_progress
from pulse.testing.last_takes_the_rest import last_takes_the_rest
from pulse.testing.scenario import Scenario, given_events
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
    "Scenario",
    "ScheduleBroken",
    "check_schedule",
    "claims",
    "edge_sizes",
    "edge_split_terms",
    "given_events",
    "histories",
    "last_takes_the_rest",
    "moments",
    "order_request_bodies",
    "order_requests",
    "orders",
    "orders_in_progress",
    "place_order",
    "place_orders",
    "sample_of",
    "schedules",
    "sizes",
    "split_order",
    "split_terms",
    "time_out_order",
]
