"""The split terms of recorded orders, to compare splitters on them."""

from pulse.application.in_process import InProcessOrders
from pulse.domain import OrderCreated, SplitTerms
from pulse.eventstore import EventStore, EventTooNew, EventUnreadable, RecordedEvent
from pulse.evidence.order_checks import fault_of_creation
from pulse.projections.lists import MAX_ORDERS_PER_PAGE, OrderQuery


async def newest_terms(
    store: EventStore, orders: InProcessOrders, max_orders: int
) -> list[SplitTerms]:
    """The split terms of the newest orders, at most `max_orders`. Unreadable orders are left out.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    terms: list[SplitTerms] = []
    before: int | None = None
    while len(terms) < max_orders:
        limit = min(MAX_ORDERS_PER_PAGE, max_orders - len(terms))
        page = await orders.orders(OrderQuery(limit=limit, before=before))
        streams = await store.read_streams([order.order_id for order in page.orders])
        for order in page.orders:
            for record in streams.get(order.order_id, ())[:1]:
                created = _creation(store, record)
                terms += [created.terms] if created is not None else []
        before = page.next_before
        if before is None:
            break
    return terms


def _creation(store: EventStore, record: RecordedEvent) -> OrderCreated | None:
    """The creation in this record; None if it cannot be read or was altered."""
    try:
        event = store.mapper.event_of(record)
    except (EventTooNew, EventUnreadable):
        return None
    if not isinstance(event, OrderCreated) or fault_of_creation(event):
        return None
    return event
