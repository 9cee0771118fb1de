"""Query strings to queries: what the lists are asked for."""

from typing import Final, cast, get_args

import msgspec

from pulse.application import TOPICS, EventQuery, EventType
from pulse.http.api.cursors import before_of, place_of
from pulse.http.parameters import Parameters, refused
from pulse.projections import (
    MOST_ORDERS_A_PAGE,
    MOST_SLICES_A_PAGE,
    OrderQuery,
    OrderQueueStatus,
    SliceQuery,
)

MOST_EVENTS_A_PAGE: Final = 1000
ORDER_PARAMETERS: Final = ("order_queue_status", "instrument", "limit", "cursor")
SLICE_PARAMETERS: Final = ("scheduled_from", "scheduled_before", "limit", "cursor")
EVENT_PARAMETERS: Final = ("after", "limit", "type")
_LAST_POSITION: Final = 2**63 - 1


def order_query(query_string: bytes) -> OrderQuery:
    """The page of orders that is asked for.

    Raises:
        BadRequest: a parameter is unknown, repeated or wrong, or the cursor is not of this list.
    """
    parameters = Parameters(query_string, ORDER_PARAMETERS)
    status = parameters.choice("order_queue_status", get_args(OrderQueueStatus))
    query = OrderQuery(
        order_queue_status=cast("OrderQueueStatus | None", status),
        instrument=parameters.instrument("instrument"),
        limit=parameters.whole("limit", least=1, most=MOST_ORDERS_A_PAGE, default=50),
    )
    return msgspec.structs.replace(query, before=before_of(parameters.text("cursor"), query))


def slice_query(query_string: bytes) -> SliceQuery:
    """The page of slices that is asked for.

    Raises:
        BadRequest: a parameter is unknown, repeated or wrong, or the cursor is not of this list.
    """
    parameters = Parameters(query_string, SLICE_PARAMETERS)
    query = SliceQuery(
        scheduled_from=parameters.time("scheduled_from"),
        scheduled_before=parameters.time("scheduled_before"),
        limit=parameters.whole("limit", least=1, most=MOST_SLICES_A_PAGE, default=100),
    )
    begin, end = query.scheduled_from, query.scheduled_before
    if begin is not None and end is not None and end < begin:
        raise refused("scheduled_before", "is too early", "a time not before scheduled_from")
    return msgspec.structs.replace(query, after=place_of(parameters.text("cursor"), query))


def event_query(query_string: bytes) -> EventQuery:
    """The page of the log that is asked for.

    Raises:
        BadRequest: a parameter is unknown, repeated or wrong.
    """
    parameters = Parameters(query_string, EVENT_PARAMETERS)
    after = parameters.whole("after", least=0, default=0)
    return EventQuery(
        after=min(after, _LAST_POSITION),  # no log reaches further, so what follows is the same
        limit=parameters.whole("limit", least=1, most=MOST_EVENTS_A_PAGE, default=100),
        type=cast("EventType | None", parameters.choice("type", TOPICS)),
    )
