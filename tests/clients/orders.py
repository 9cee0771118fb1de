"""A service that previews, places and cancels an order, on a generated client.

openapi-python-client generates it. `python orders.py URL [TOKEN]`: the API at this URL, with a
service token or without. It prints what it found as JSON.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import TypeVar, assert_never
from uuid import UUID

from pulse_client import AuthenticatedClient, Client
from pulse_client.api.events import list_events, read_history
from pulse_client.api.health import read_health, read_readiness
from pulse_client.api.lists import list_orders, list_slices, read_queue
from pulse_client.api.orders import (
    cancel_order,
    place_order,
    place_orders,
    preview_order,
    read_order,
)
from pulse_client.models import (
    CancelRequest,
    ErrorBody,
    ErrorResponse,
    Order,
    OrderCancelled,
    OrderCreated,
    OrderQueueStatus,
    OrderRequest,
    OtherEvent,
    PreviewRequest,
    ReleasesHalted,
    ReleasesResumed,
    ScheduledSlice,
    Side,
    SlicesExpired,
    SlicesReleased,
    SlicesScheduled,
    SliceState,
    SplitConfigRequest,
    SplittingFailed,
    TimedOut,
)
from pulse_client.types import UNSET

AnyClient = Client | AuthenticatedClient
Event = (
    OrderCreated
    | SlicesScheduled
    | SplittingFailed
    | TimedOut
    | OrderCancelled
    | SlicesReleased
    | SlicesExpired
    | ReleasesHalted
    | ReleasesResumed
    | OtherEvent
)
Answer = TypeVar("Answer")

FINAL = (OrderQueueStatus.COMPLETED, OrderQueueStatus.FAILED, OrderQueueStatus.CANCELLED)
DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.05
NO_ORDER = UUID("0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77")


class Refused(Exception):
    """The API answered with an error."""

    def __init__(self, error: ErrorBody) -> None:
        self.code = error.code
        self.details = error.details.additional_properties
        super().__init__(error.message)


def expect(answer: Answer | ErrorResponse | None) -> Answer:
    """The answer of a call, if it is not an error."""
    if isinstance(answer, ErrorResponse):
        raise Refused(answer.error)
    if answer is None:
        raise AssertionError("a status that the document does not have")
    return answer


def code_of(answer: object) -> str:
    """The code of a call that was refused."""
    assert isinstance(answer, ErrorResponse), answer
    return answer.error.code


def wait_until_final(client: AnyClient, order_id: UUID) -> Order:
    """The order once it is final and its first slice is not SCHEDULED any more."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        order = expect(read_order.sync(order_id, client=client))
        split = order.order_queue_status in FINAL
        if split and all(one.state != SliceState.SCHEDULED for one in order.slices[:1]):
            return order
        assert time.monotonic() < deadline, order
        time.sleep(POLL_SECONDS)


def every_order(client: AnyClient) -> Iterator[Order]:
    """Every order, newest first, in small pages."""
    page = expect(list_orders.sync(client=client, limit=1))
    yield from page.orders
    while page.next_cursor is not None:
        page = expect(list_orders.sync(client=client, limit=1, cursor=page.next_cursor))
        yield from page.orders


def slices_of(client: AnyClient, order: Order) -> Iterator[ScheduledSlice]:
    """The slices of an order, out of the list of all."""
    cursor: str | None = None
    while True:
        page = expect(
            list_slices.sync(
                client=client,
                scheduled_from=order.created_at,
                limit=2,
                cursor=UNSET if cursor is None else cursor,
            )
        )
        yield from (one for one in page.slices if one.order_id == order.order_id)
        if (cursor := page.next_cursor) is None:
            return


def whole_log(client: AnyClient) -> Iterator[Event]:
    """Every event up to the end of the log, in commit order."""
    after = 0
    while True:
        page = expect(list_events.sync(client=client, after=after, limit=2))
        yield from page.events
        if page.next_after == after:
            return
        after = page.next_after


def in_words(event: Event) -> str:  # noqa: C901, PLR0911 - one for each type
    """What happened: each type of event has its own data."""
    match event:
        case OrderCreated(data=created):
            return f"{created.side} {created.total_quantity} as {created.num_splits} slices"
        case SlicesScheduled(data=scheduled):
            return f"{sum(one.quantity for one in scheduled.slices)} scheduled"
        case SplittingFailed(data=failed):
            return f"failed: {failed.reason}"
        case TimedOut(data=timed_out):
            return f"timed out after {timed_out.timeout_seconds:g} s"
        case OrderCancelled(data=cancelled):
            return f"{cancelled.quantity} cancelled: {cancelled.reason}"
        case SlicesReleased(data=released):
            return f"{sum(one.quantity for one in released.slices)} released"
        case SlicesExpired(data=expired):
            return f"{expired.quantity} expired: {expired.reason}"
        case ReleasesHalted(data=halted):
            return f"releases of {halted.scope} halted: {halted.reason}"
        case ReleasesResumed(data=resumed):
            return f"halt {resumed.halt_id} lifted by {resumed.resumed_by}"
        case OtherEvent(type_=name, data=stored):
            return f"{name} with {len(stored.additional_properties)} fields"
        case _:
            assert_never(event)


def main(url: str, token: str | None = None) -> None:
    """Preview an order, place and follow it, cancel what is left, and read it in other ways."""
    client: AnyClient = (
        Client(base_url=url) if token is None else AuthenticatedClient(base_url=url, token=token)
    )
    health = expect(read_health.sync(client=client))
    ready = expect(read_readiness.sync(client=client))

    request = OrderRequest(
        order_unique_key="ouk_first",
        instrument="NSE:RELIANCE",
        side=Side.BUY,
        total_quantity=100,
        split_config=SplitConfigRequest(num_splits=5, duration_minutes=60),
    )
    preview = expect(
        preview_order.sync(client=client, body=PreviewRequest.from_dict(request.to_dict()))
    )
    repeated = PreviewRequest.from_dict({**request.to_dict(), "split_seed": preview.split_seed})
    preview_again = expect(preview_order.sync(client=client, body=repeated))
    wrong_seed = PreviewRequest.from_dict({**request.to_dict(), "split_seed": "7"})
    placed = expect(place_order.sync(client=client, body=request))
    order = wait_until_final(client, placed.order_id)

    cancel = CancelRequest(reason="the fund is closed")
    cancelled = expect(cancel_order.sync(order.order_id, client=client, body=cancel))
    again = expect(cancel_order.sync(order.order_id, client=client))
    assert again == cancelled, again

    other = OrderRequest.from_dict({**request.to_dict(), "total_quantity": 101})
    batch = expect(place_orders.sync(client=client, body=[request, other]))
    history = expect(read_history.sync(order.order_id, client=client))

    then = expect(read_order.sync(order.order_id, client=client, version=1))
    queue = expect(read_queue.sync(client=client, position=order.position))
    assert then.as_of, then
    assert not order.as_of, order

    found = {
        "past": [then.order_queue_status, then.as_of.position == then.position],
        "queue": queue.as_of_position == order.position and queue.counts.completed >= 1,
        "health": [health.status, ready.status],
        "request": request.to_dict(),
        "preview": [one.quantity for one in preview.slices],
        "preview_again": [one.quantity for one in preview_again.slices],
        "window_seconds": (preview.window.ends_at - preview.window.starts_at).total_seconds(),
        "order_id": str(order.order_id),
        "status": order.order_queue_status,
        "slices": [one.quantity for one in order.slices],
        "states": [one.state for one in cancelled.slices],
        "quantities": cancelled.quantities.to_dict(),
        "listed": [str(one.order_id) for one in every_order(client)].count(str(order.order_id)),
        "listed_slices": [one.quantity for one in slices_of(client, order)],
        "history": [in_words(event) for event in history.events],
        "log": [in_words(event) for event in whole_log(client)],
        "batch": [
            one.body.error.code if isinstance(one.body, ErrorResponse) else str(one.body.order_id)
            for one in batch.results
        ],
        "errors": [
            code_of(read_order.sync(NO_ORDER, client=client)),
            code_of(place_order.sync(client=client, body=other)),
            code_of(list_orders.sync(client=client, cursor="x")),
            code_of(cancel_order.sync(NO_ORDER, client=client)),
            code_of(preview_order.sync(client=client, body=wrong_seed)),
            code_of(read_order.sync(order.order_id, client=client, version=99)),
        ],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
