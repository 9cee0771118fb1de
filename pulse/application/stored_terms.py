"""What stored orders ask of a splitter, for trying another one on them."""

from uuid import UUID

from pulse.application.acceptance import require_accepted
from pulse.application.orders import Queries
from pulse.domain import OrderCreated, SplitTerms
from pulse.eventstore import EventStore, RecordedEvent
from pulse.projections import MOST_ORDERS_A_PAGE, OrderQuery


async def newest_terms(store: EventStore, queries: Queries, most: int) -> list[SplitTerms]:
    """The terms of the newest orders, at most so many; what no order can be is left out.

    Raises:
        DatabaseUnavailable: they cannot be read.
    """
    terms: list[SplitTerms] = []
    before: int | None = None
    while len(terms) < most:
        limit = min(MOST_ORDERS_A_PAGE, most - len(terms))
        page = await queries.orders(OrderQuery(limit=limit, before=before))
        terms += await _terms_of(store, [order.order_id for order in page.orders])
        before = page.next_before
        if before is None:
            break
    return terms


async def _terms_of(store: EventStore, order_ids: list[UUID]) -> list[SplitTerms]:
    streams = await store.read_streams(order_ids)
    return [
        created.terms
        for order_id in order_ids
        for created in _creation(store, streams.get(order_id, ()))
    ]


def _creation(store: EventStore, stream: tuple[RecordedEvent, ...]) -> tuple[OrderCreated, ...]:
    try:
        created = tuple(
            e for e in store.mapper.events_of(stream[:1]) if isinstance(e, OrderCreated)
        )
        for event in created:
            require_accepted(event)
    except Exception:  # noqa: BLE001 - whatever is wrong with one order must not hide the others
        return ()
    return created
